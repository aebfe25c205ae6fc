"""A lock beside a directory that several processes may want to make: `<directory>.lock`, by flock(2)."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["lock_file", "locked"]

POLL_SECONDS = 0.1


def lock_file(home: Path) -> Path:
    """Where the lock of a directory is."""
    return home.with_name(home.name + ".lock")


@asynccontextmanager
async def locked(home: Path, waiting: Callable[[], None] | None = None) -> AsyncIterator[int | None]:
    """Hold a directory's lock; gives its descriptor.

    waiting: called once if another holds it, which is then waited for; without it, gives None instead.
    """
    path = lock_file(home)
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


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None if another does. flock(2) also parts tasks of one process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or removed by `prune` between the two lines
    os.close(descriptor)
    return None
