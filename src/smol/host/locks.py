"""A lock beside a directory that several processes may want to make: `<directory>.lock`, by flock(2)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["locked", "remove"]

POLL_SECONDS = 0.1


def _lock_file(home: Path) -> Path:
    """Where the lock of a directory is."""
    return home.with_name(home.name + ".lock")


@asynccontextmanager
async def locked(home: Path, waiting: Callable[[], None] | None = None) -> AsyncIterator[int | None]:
    """Hold a directory's lock; gives its descriptor.

    waiting: called once if another holds it, which is then waited for; without it, gives None instead.
    """
    path = _lock_file(home)
    descriptor = _try_lock(path)
    if descriptor is None and waiting is not None:
        waiting()
        # flock(2) tells nobody when it is free, and a thread blocked in it could not be cancelled.
        while (descriptor := _try_lock(path)) is None:
            await asyncio.sleep(POLL_SECONDS)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def remove(home: Path, unused: Callable[[Path], bool]) -> bool:
    """Remove a directory with its lock, unless another process holds that. True: it is gone.

    unused: asked before, and again under the lock, for somebody may have come to use it.
    """
    if not unused(home):
        return False
    async with locked(home) as lock:
        if lock is None or not unused(home):
            return False
        await asyncio.to_thread(shutil.rmtree, home)
        _lock_file(home).unlink()
        return True


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None if another does. flock(2) also parts tasks of one process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or removed by `remove` between the two lines
    os.close(descriptor)
    return None
