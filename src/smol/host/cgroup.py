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
from pathlib import Path

from smol.cgroups import Group
from smol.errors import FailedPrecondition
from smol.host.limits import Hierarchy, find_hierarchy, without_cgroup
from smol.host.memory import ROOT

__all__ = ["Tree", "make_tree"]

PROCESSES = 512
"""Upper bound for one worker where the pids controller is at hand; a fork bomb stops there."""


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
        group.remove_all()
        group.make()
        try:
            group.set_limit(limit_bytes)
            group.limit_processes(PROCESSES)
            group.end_together()
        except OSError:
            group.remove_all()
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
            gone = group.remove_all() and gone
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
        return self.host.remove_all() and self.top.remove_all()


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
