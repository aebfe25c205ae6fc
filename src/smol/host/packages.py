"""Sets of Python packages for sandboxes: directories made of wheels alone, so that nothing of them runs here.

    <directory>/<key>/            the packages
    <directory>/<key>/smol.json   the stamp: which set this is
    <directory>/<key>.lock        locked while it is made or removed

A set is made beside its place and moved there when it is whole. Whoever imports from one finds it unchanged:
another list of requirements, or another Python, is another set.
"""

from __future__ import annotations

import asyncio
import compileall
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from smol.errors import InvalidArgument
from smol.host.environments import STAMP, clean_environ, last_use, silent
from smol.host.installer import Progress, run
from smol.host.locks import locked, remove
from smol.host.requirements import normalise, refuse_addresses

__all__ = ["PackageSet", "Packages"]

_TIMEOUT_SECONDS = 1800.0


class PackageSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set that is there. asked_at: when it was last asked for, Unix seconds."""

    path: str
    requirements: list[str]
    python: str
    size_bytes: int
    asked_at: float


class Packages:
    """The sets in one directory, which other processes may use at the same time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    async def ensure(self, requirements: Sequence[str], python: str, progress: Progress = silent) -> Path:
        """Where a set is, made now if it is not there. Whoever comes while another makes it, waits.

        python: the version to import with, such as `3.12`.
        Raises InvalidArgument for what names no package of an index; FailedPrecondition or Unavailable with the
        installer's last lines. If cancelled, the installer is killed.
        """
        if not requirements:
            raise InvalidArgument("a set of packages needs at least one requirement")
        refuse_addresses(requirements)
        wanted = normalise(requirements)
        home = self._directory / _key(wanted, python)
        if not _touch(home):
            self._directory.mkdir(parents=True, exist_ok=True)
            async with locked(home, lambda: progress(f"waiting for another process to make {home}")) as lock:
                if not _touch(home):
                    await self._make(home, wanted, python, lock, progress)
        return home

    def sets(self) -> list[PackageSet]:
        """All that are there, the last asked for first."""
        found = []
        for stamp in self._directory.glob(f"*/{STAMP}"):
            told = json.loads(stamp.read_bytes())
            found.append(PackageSet(path=str(stamp.parent), asked_at=stamp.stat().st_mtime, **told))
        return sorted(found, key=lambda each: -each.asked_at)

    async def prune(self, unused_seconds: float) -> list[PackageSet]:
        """Remove the sets that nobody has asked for so long, and what was never finished; returns the sets."""
        removed = []
        for fresh in self._directory.glob("*.new"):
            async with locked(fresh.with_suffix("")) as lock:
                if lock is not None:
                    await asyncio.to_thread(shutil.rmtree, fresh)
        oldest = time.time() - unused_seconds
        for each in await asyncio.to_thread(self.sets):
            if await remove(Path(each.path), lambda home: last_use(home) <= oldest):
                removed.append(each)
        return removed

    async def _make(
        self, home: Path, wanted: Sequence[str], python: str, lock: int | None, progress: Progress
    ) -> None:
        fresh = home.with_name(f"{home.name}.new")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        fresh.mkdir()  # Where no requirement is for this platform, the installer makes none.
        progress(f"fetching {', '.join(wanted)}")
        try:
            await run(
                [*_command(fresh, python), *wanted], cwd=self._directory, environ=clean_environ(os.environ),
                held=() if lock is None else (lock,), timeout_seconds=_TIMEOUT_SECONDS, progress=progress,
            )  # fmt: skip
            size = await asyncio.to_thread(_finish, fresh, python)
            told = {"requirements": list(wanted), "python": python, "size_bytes": size}
            (fresh / STAMP).write_text(json.dumps(told, indent=1))
            fresh.rename(home)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
            raise
        progress("the packages are there")


def _command(target: Path, python: str) -> list[str]:
    """How to put what is then appended into a directory. Wheels only: to build a package is to run its code."""
    where = ["--target", str(target), "--python-version", python, "--only-binary=:all:"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable, *where]
    pip = [sys.executable, "-P", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    return [*pip, "--progress-bar=off", "--retries=1", "--no-compile", *where]


def _finish(directory: Path, python: str) -> int:
    """Take away what is no package, compile the rest, where nobody can later, for everyone to read; its size."""
    shutil.rmtree(directory / "bin", ignore_errors=True)
    if python == ".".join(map(str, sys.version_info[:2])):
        compileall.compile_dir(directory, quiet=2)
    size = 0
    for folder, _, files in os.walk(directory):
        os.chmod(folder, 0o755)  # noqa: S103
        for name in files:
            path = os.path.join(folder, name)
            os.chmod(path, 0o644)
            size += os.path.getsize(path)
    return size


def _key(wanted: Sequence[str], python: str) -> str:
    facts = [list(wanted), python, platform.machine()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _touch(home: Path) -> bool:
    """Whether a set is there; if so, notes that it was asked for."""
    try:
        os.utime(home / STAMP)
    except FileNotFoundError:
        return False
    return True
