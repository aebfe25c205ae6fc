"""Control groups of both versions: what the host bounds its workers with, and sandboxes their runs.

Covers one directory; which there are, and who makes them, is known above.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

__all__ = ["Group"]


class Group:
    """One cgroup directory. Reading what the kernel does not tell gives None."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version

    def __repr__(self) -> str:
        return f"Group({str(self.path)!r}, version={self.version})"

    def make(self) -> None:
        """Make the directory. Raises OSError."""
        self.path.mkdir()

    def set_limit(self, size_bytes: int) -> None:
        """Limit memory, and allow no swap. Raises OSError; EBUSY when it is far below the use already."""
        if self.version == 2:
            self.write("memory.max", size_bytes)
            self.attempt("memory.swap.max", 0)  # absent where swap is not accounted
            return
        # memory + swap may never be below memory alone, so which goes first depends on the direction.
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        with_swap = self.number(names[1])
        if with_swap is None:
            names.pop()
        elif size_bytes > with_swap:
            names.reverse()
        for name in names:
            self.write(name, size_bytes)
        self.attempt("memory.swappiness", 0)

    def add(self, pid: int) -> None:
        """Move a process in; 0 moves the caller. Its later children follow, its present ones do not."""
        self.write("cgroup.procs", pid)

    def pids(self) -> list[int]:
        return [int(word) for word in (self._read("cgroup.procs") or "").split()]

    def used_bytes(self) -> int | None:
        """All that is charged, less file cache that the kernel would drop first."""
        total = self.number("memory.current" if self.version == 2 else "memory.usage_in_bytes")
        if total is None:
            return None
        cached = self.field("memory.stat", "inactive_file" if self.version == 2 else "total_inactive_file")
        return max(0, total - (cached or 0))

    def held_bytes(self) -> int | None:
        """What is charged and can't be dropped: all but file cache, where shared memory is none."""
        used = self.used_bytes()
        active = self.field("memory.stat", "active_file" if self.version == 2 else "total_active_file")
        return None if used is None else max(0, used - (active or 0))

    def peak_bytes(self) -> int | None:
        """The most that was ever charged; None on version 2 before Linux 5.19."""
        return self.number("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes")

    def oom_kills(self) -> int | None:
        """How many processes in it the kernel killed for memory; None on version 1 before Linux 4.13."""
        return self.field("memory.events" if self.version == 2 else "memory.oom_control", "oom_kill")

    def file_cache(self) -> tuple[int, int]:
        """Bytes of file cache charged to it, and pages of files that it ever read again after the kernel dropped
        them; both without the groups inside it, and 0 where the kernel does not tell."""
        stat = self._fields("memory.stat")
        return stat.get("active_file", 0) + stat.get("inactive_file", 0), stat.get("workingset_refault_file", 0)

    def kill(self) -> None:
        """Kill all processes in it; they are gone shortly after. Call again while `pids` names any."""
        if self.version == 2 and self.attempt("cgroup.kill", 1):
            return
        for group in (*self.inner(), self):
            for pid in group.pids():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def inner(self) -> list[Group]:
        """The groups inside it, innermost first: sandboxes that a worker made."""
        found: list[Group] = []
        with contextlib.suppress(OSError):
            for path in sorted(self.path.iterdir()):
                if path.is_dir():
                    group = Group(path, self.version)
                    found += [*group.inner(), group]
        return found

    def remove(self) -> bool:
        """Remove it if it is empty. True: it is gone."""
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
        return True

    def remove_all(self) -> bool:
        """Remove it, and the groups inside it, if they are empty. True: it is gone."""
        for group in self.inner():
            if not group.remove():
                return False
        return self.remove()

    def share_out(self, controllers: str, *, on: bool = True) -> None:
        """Let, or no longer let, the groups inside it have these controllers (version 2). Raises OSError."""
        for controller in controllers.split():
            self.write("cgroup.subtree_control", f"{'+' if on else '-'}{controller}")

    def is_root(self) -> bool:
        """Whether it is the machine's own (version 2), which may share out controllers with processes in it."""
        return self.version == 2 and not (self.path / "cgroup.type").exists()

    def has_shared_out(self, controller: str) -> bool:
        return controller in (self._read("cgroup.subtree_control") or "").split()

    def limit_processes(self, count: int) -> bool:
        """Limit how many processes may live in it. False: there is no pids controller here."""
        return (self.path / "pids.max").exists() and self.attempt("pids.max", count)

    def count_inner(self) -> None:
        """Count what is inside its children too (version 1 before Linux 5.11; afterwards it always is)."""
        self.attempt("memory.use_hierarchy", 1)

    def take_charges(self) -> None:
        """Let processes that come in bring the memory that they use already (version 1)."""
        if self.version == 1:
            self.attempt("memory.move_charge_at_immigrate", 3)  # Private memory and shared.

    def end_together(self) -> None:
        """When one of its processes is killed for memory, all are (version 2)."""
        if self.version == 2:
            self.attempt("memory.oom.group", 1)

    def write(self, name: str, value: int | str) -> None:
        """Raises OSError."""
        # Not Path.write_text: it would create what the kernel does not offer, on a file system that lets it.
        descriptor = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def attempt(self, name: str, value: int | str) -> bool:
        """Write where it can be done. False: it can't."""
        try:
            self.write(name, value)
        except OSError:
            return False
        return True

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text()
        except OSError:
            return None

    def number(self, name: str) -> int | None:
        """What a file of one number says."""
        text = (self._read(name) or "").strip()
        return int(text) if text.isdigit() else None

    def field(self, name: str, field: str) -> int | None:
        """What a file of names and numbers says."""
        return self._fields(name).get(field)

    def _fields(self, name: str) -> dict[str, int]:
        lines = (line.split() for line in (self._read(name) or "").splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
