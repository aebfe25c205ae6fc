"""Cgroups of sandboxes: found, made beneath the caller's own so that limits nest, measured and removed.

Version 1 has one hierarchy for memory and one for processes, version 2 one for both: a `Cell` covers either.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from smol.cgroups import Group
from smol.errors import FailedPrecondition

__all__ = ["Cell", "Parent", "find_parent"]

ROOT = Path("/")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_THRASHED_BYTES = 4 << 20
"""Read again between two looks: less does not hurt."""


class Cell:
    """The cgroups of one sandbox."""

    def __init__(self, memory: Group, pids: Group | None) -> None:
        self.memory = memory
        self.pids = pids
        self._limits = (0, 0)
        self._read_again = 0

    @property
    def paths(self) -> list[str]:
        return [str(group.path) for group in self._groups()]

    def _groups(self) -> list[Group]:
        apart = self.pids is not None and self.pids.path != self.memory.path
        return [self.memory, *([self.pids] if apart and self.pids else [])]

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Raises OSError."""
        if self._limits == (memory_bytes, processes):
            return
        self.memory.set_limit(memory_bytes)
        self.memory.end_together()
        if self.pids is not None:
            self.pids.write("pids.max", processes)
        self._limits = (memory_bytes, processes)

    def peak_bytes(self) -> int | None:
        """The most that was ever charged; None on version 2 before Linux 5.19."""
        return self.memory.peak_bytes()

    def oom_kills(self) -> int:
        """How many processes the kernel killed for memory."""
        return self.memory.oom_kills() or 0

    def thrashes(self) -> bool:
        """Whether since the last look its files were read again many times over, for want of memory to keep them.

        The kernel does not call that out of memory while it finds a page to drop: a process at its limit whose
        own code was first read by itself then reads every page of it from the disk, for seconds, on all of the
        disk's time.
        """
        kept, pages = self.memory.file_cache()
        read_again, self._read_again = (pages - self._read_again) * _PAGE_BYTES, pages
        return read_again > max(4 * kept, _THRASHED_BYTES)

    def refused_processes(self) -> int:
        """How often a process or thread was refused for their number."""
        return 0 if self.pids is None else self.pids.field("pids.events", "max") or 0

    def remove(self, within_seconds: float = 0.5) -> bool:
        """Remove the groups; a process that has just ended may keep one for a moment."""
        deadline = time.monotonic() + within_seconds
        while True:
            left = [group for group in self._groups() if not group.remove()]  # each is tried
            if not left:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)


class Parent:
    """Where cells are made. memory, pids: the groups to make them in; the same one on version 2."""

    def __init__(self, memory: Group, pids: Group | None) -> None:
        self.memory = memory
        self.pids = pids
        self._made = 0

    def make(self) -> Cell:
        """Raises OSError."""
        self._made += 1
        name = f"box-{os.getpid()}-{self._made}"
        cell = Cell(
            Group(self.memory.path / name, self.memory.version),
            None if self.pids is None else Group(self.pids.path / name, self.pids.version),
        )
        try:
            for path in cell.paths:
                os.mkdir(path)
        except OSError:
            cell.remove(0)
            raise
        return cell

    def sweep(self) -> int:
        """Remove the empty cells of units that were killed together with their nursery; how many."""
        removed = 0
        for group in (self.memory, *([self.pids] if self.pids else [])):
            for path in group.path.glob("box-*-*"):
                if not Path(f"/proc/{path.name.split('-')[1]}").exists():
                    with contextlib.suppress(OSError):
                        path.rmdir()
                        removed += 1
        return removed


def find_parent(root: Path = ROOT) -> Parent:
    """The calling process's own groups, proved writable by making a cell. Raises FailedPrecondition."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    by_controller: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        by_controller.update(dict.fromkeys(controllers.split(","), path))
    mount = root / "sys/fs/cgroup"
    try:
        if "memory" in by_controller:
            parent = Parent(
                Group(_below(mount / "memory", by_controller["memory"]), 1),
                Group(_below(mount / "pids", by_controller["pids"]), 1) if "pids" in by_controller else None,
            )
        elif "" in by_controller and (mount / "cgroup.controllers").exists():
            parent = _parent_of_version_2(Group(_below(mount, by_controller[""]), 2))
        else:
            raise FailedPrecondition("no memory cgroup is mounted; mount cgroup2 at /sys/fs/cgroup")
        parent.sweep()
        cell = parent.make()
        try:
            cell.limit(64 << 20, 64)
        finally:
            cell.remove()
    except OSError as error:
        raise FailedPrecondition(
            f"cgroups can't be made ({error.strerror}: {error.filename}); run as root, or in a delegated scope: "
            "systemd-run --user --scope -p Delegate=yes smol serve"
        ) from error
    return parent


def _parent_of_version_2(own: Group) -> Parent:
    """A group with processes can't share out its controllers: those of `own` move into a group inside it."""
    if not own.has_shared_out("memory"):
        inner = Group(own.path / "unit", 2)
        inner.path.mkdir(exist_ok=True)
        for pid in own.pids():
            inner.attempt("cgroup.procs", pid)
        own.share_out("memory")
        own.attempt("cgroup.subtree_control", "+pids")
    return Parent(own, own if own.has_shared_out("pids") else None)


def _below(mount: Path, path: str) -> Path:
    """The group at `path`; in a container whose mount shows only its own groups, that mount."""
    full = mount / path.lstrip("/")
    return full if full.exists() else mount


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
