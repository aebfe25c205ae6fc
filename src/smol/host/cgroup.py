"""Enforcement by the kernel: one memory cgroup around the whole tree, a child for each worker and sandbox.

    BASE/smol-PID            memory.max = budget, no swap
    BASE/smol-PID/host       the host and the zygote
    BASE/smol-PID/NAME       one worker or sandbox; it dies alone when it overruns its own limit

BASE is the cgroup this process is in, so that outer limits stay in force. In version 2 it must have no
other processes (a delegated scope); root may take the nearest group above that already shares out memory.
Memory that was used before the move stays charged to the old group: make the tree first thing.
What the host decides to do with all this is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

from smol.errors import FailedPrecondition
from smol.host.limits import Hierarchy, find_hierarchy, without_cgroup
from smol.host.memory import ROOT

__all__ = ["Group", "Tree", "make_tree"]

PROCESSES = 512
"""Upper bound for one worker where the pids controller is at hand; a fork bomb stops there."""


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
            self._write("memory.max", size_bytes)
            self._try("memory.swap.max", 0)  # absent where swap is not accounted
            return
        # memory + swap may never be below memory alone, so which goes first depends on the direction.
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        with_swap = self._number(names[1])
        if with_swap is None:
            names.pop()
        elif size_bytes > with_swap:
            names.reverse()
        for name in names:
            self._write(name, size_bytes)
        self._try("memory.swappiness", 0)

    def add(self, pid: int) -> None:
        """Move a process in; 0 moves the caller. Its later children follow, its present ones do not."""
        self._write("cgroup.procs", pid)

    def pids(self) -> list[int]:
        return [int(word) for word in (self._read("cgroup.procs") or "").split()]

    def used_bytes(self) -> int | None:
        """All that is charged, less file cache that the kernel would drop first."""
        total = self._number("memory.current" if self.version == 2 else "memory.usage_in_bytes")
        if total is None:
            return None
        cached = self._field("memory.stat", "inactive_file" if self.version == 2 else "total_inactive_file")
        return max(0, total - (cached or 0))

    def held_bytes(self) -> int | None:
        """What is charged and can't be dropped: all but file cache, where shared memory is none."""
        used = self.used_bytes()
        active = self._field("memory.stat", "active_file" if self.version == 2 else "total_active_file")
        return None if used is None else max(0, used - (active or 0))

    def peak_bytes(self) -> int | None:
        """The most that was ever charged; None on version 2 before Linux 5.19."""
        return self._number("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes")

    def oom_kills(self) -> int | None:
        """How many processes in it the kernel killed for memory; None on version 1 before Linux 4.13."""
        return self._field("memory.events" if self.version == 2 else "memory.oom_control", "oom_kill")

    def kill(self) -> None:
        """Kill all processes in it; they are gone shortly after. Call again while `pids` names any."""
        if self.version == 2 and self._try("cgroup.kill", 1):
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
        """Remove it, and the groups inside it, if they are empty. True: it is gone."""
        try:
            for group in self.inner():
                with contextlib.suppress(FileNotFoundError):
                    group.path.rmdir()
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
        return True

    def share_out(self, controllers: str, *, on: bool = True) -> None:
        """Let, or no longer let, the groups inside it have these controllers (version 2). Raises OSError."""
        for controller in controllers.split():
            self._write("cgroup.subtree_control", f"{'+' if on else '-'}{controller}")

    def is_root(self) -> bool:
        """Whether it is the machine's own (version 2), which may share out controllers with processes in it."""
        return self.version == 2 and not (self.path / "cgroup.type").exists()

    def has_shared_out(self, controller: str) -> bool:
        return controller in (self._read("cgroup.subtree_control") or "").split()

    def limit_processes(self, count: int) -> bool:
        """Limit how many processes may live in it. False: there is no pids controller here."""
        return (self.path / "pids.max").exists() and self._try("pids.max", count)

    def count_inner(self) -> None:
        """Count what is inside its children too (version 1 before Linux 5.11; afterwards it always is)."""
        self._try("memory.use_hierarchy", 1)

    def take_charges(self) -> None:
        """Let processes that come in bring the memory that they use already (version 1)."""
        if self.version == 1:
            self._try("memory.move_charge_at_immigrate", 3)  # Private memory and shared.

    def end_together(self) -> None:
        """When one of its processes is killed for memory, all are (version 2)."""
        if self.version == 2:
            self._try("memory.oom.group", 1)

    def _write(self, name: str, value: int | str) -> None:
        # Not Path.write_text: it would create what the kernel does not offer, on a file system that lets it.
        descriptor = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def _try(self, name: str, value: int | str) -> bool:
        try:
            self._write(name, value)
        except OSError:
            return False
        return True

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text()
        except OSError:
            return None

    def _number(self, name: str) -> int | None:
        text = (self._read(name) or "").strip()
        return int(text) if text.isdigit() else None

    def _field(self, name: str, field: str) -> int | None:
        for line in (self._read(name) or "").splitlines():
            key, _, value = line.partition(" ")
            if key == field and value.strip().isdigit():
                return int(value)
        return None


class Tree:
    """The cgroup around everything Smol runs. Made by `make_tree`."""

    def __init__(self, top: Group, host: Group, home: Group, base: Group) -> None:
        self.top = top
        self.host = host
        self._home = home
        self._base = base

    def set_budget(self, size_bytes: int) -> None:
        """Raises OSError; EBUSY when far more is in use (version 1), while version 2 kills for it."""
        self.top.set_limit(size_bytes)

    def child(self, name: str, limit_bytes: int) -> Group:
        """A group for one worker or sandbox. One of that name that is empty is made anew. Raises OSError."""
        tame = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
        group = Group(self.top.path / f"unit-{tame}", self.top.version)
        group.remove()
        group.make()
        try:
            group.set_limit(limit_bytes)
            group.limit_processes(PROCESSES)
            group.end_together()
        except OSError:
            group.remove()
            raise
        return group

    def children(self) -> list[Group]:
        return [Group(path, self.top.version) for path in sorted(self.top.path.glob("unit-*"))]

    def remove(self) -> bool:
        """Kill what is left of the workers, move the host home and remove everything.

        False: call again shortly, for killed processes take a moment to go.
        """
        gone = True
        for group in self.children():
            group.kill()
            gone = group.remove() and gone
        if not gone:
            return False
        if self.top.version == 2:
            with contextlib.suppress(OSError):
                self.top.share_out("memory pids", on=False)
            if self._base.path == self._home.path:
                with contextlib.suppress(OSError):
                    self._base.share_out("memory pids", on=False)
        for pid in self.host.pids():
            with contextlib.suppress(OSError):
                self._home.add(pid)
        return self.host.remove() and self.top.remove()


def make_tree(budget_bytes: int, root: Path = ROOT) -> Tree:
    """Make the cgroup with this limit and move this process into it.

    Raises FailedPrecondition, saying what is missing and what would help; nothing is left behind then.
    """
    hierarchy = find_hierarchy(root)
    if hierarchy is None:
        raise FailedPrecondition(f"the kernel cannot enforce the budget: {without_cgroup(root)}")
    home = Group(hierarchy.own, hierarchy.version)
    base = home if hierarchy.version == 1 else _base_of_version_2(hierarchy)
    _sweep(base)
    top = Group(base.path / f"smol-{os.getpid()}", hierarchy.version)
    host = Group(top.path / "host", hierarchy.version)
    tree = Tree(top, host, home, base)
    try:
        top.make()
        host.make()
        if hierarchy.version == 1:
            top.count_inner()
            top.set_limit(budget_bytes)
            host.take_charges()
            host.add(os.getpid())
        else:
            host.add(os.getpid())  # first, for a group with processes can't share out its controllers
            _share_out(base)
            top.set_limit(budget_bytes)
            _share_out(top)
    except OSError as error:
        with contextlib.suppress(OSError):
            tree.remove()
        raise FailedPrecondition(
            f"the kernel cannot enforce the budget: {base.path} is not ours to divide ({error.strerror}); "
            f"{_advice(error)}"
        ) from error
    return tree


def _base_of_version_2(hierarchy: Hierarchy) -> Group:
    own = Group(hierarchy.own, 2)
    others = [pid for pid in own.pids() if pid != os.getpid()]
    if not others or own.has_shared_out("memory") or own.is_root():
        return own
    group = own.path
    while os.geteuid() == 0 and group != hierarchy.mount:
        group = group.parent
        if Group(group, 2).has_shared_out("memory"):
            return Group(group, 2)
    raise FailedPrecondition(
        f"the kernel cannot enforce the budget: {own.path} holds {len(others)} other processes, so it can't "
        "be divided; start Smol in a scope of its own: systemd-run --user --scope -p Delegate=yes smol serve"
    )


def _share_out(group: Group) -> None:
    if not group.has_shared_out("memory"):
        group.share_out("memory")
    with contextlib.suppress(OSError):  # the pids controller is welcome, not needed
        group.share_out("pids")


def _sweep(base: Group) -> None:
    """Remove the empty trees of hosts that were killed."""
    for top in base.path.glob("smol-*"):
        groups = [*top.glob("unit-*"), top / "host", top]
        if not Path(f"/proc/{top.name.removeprefix('smol-')}").exists():
            for path in groups:
                with contextlib.suppress(OSError):
                    path.rmdir()


def _advice(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "in a container, mount cgroups writable, or set the container's own memory limit to the budget"
    return "run as root, or in a delegated scope: systemd-run --user --scope -p Delegate=yes smol serve"
