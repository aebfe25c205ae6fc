"""Cages: what limits each process from its birth on. A cgroup where there are any, else a limit of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable

import msgspec

from smol.cgroups import Group
from smol.host.cgroup import Tree
from smol.host.enforcement import limit_process, shift_limit
from smol.host.memory import set_oom_score_adj

__all__ = ["Cage", "Cages", "enter"]

_log = logging.getLogger("smol.host")
_OOM_SCORE = 500
"""The kernel ends a worker before the host, and before what else the machine runs."""
_CHANGE_BYTES = 1 << 20
"""Limits follow changes of this size, not each page."""
_LEAVE_SECONDS = 0.25
"""How long a process's helpers may clear up after it, outside of the cage too, before they are killed."""
_EMPTY_SECONDS = 5.0
"""How long the kernel may take to empty the cgroup of a process that was killed."""


class Cage(msgspec.Struct, frozen=True):
    """A cgroup to go into, by its directory, or else how much private memory to allow, in bytes; or neither."""

    group: str = ""
    limit_bytes: int = 0


def enter(cage: Cage) -> None:
    """Go into a cage, first thing in a newborn process. Raises OSError; nobody may run outside."""
    if cage.group:
        with open(f"{cage.group}/cgroup.procs", "w") as file:
            file.write("0")  # Whoever writes it.
    elif cage.limit_bytes:
        limit_process(cage.limit_bytes)
    set_oom_score_adj(os.getpid(), _OOM_SCORE)


class Cages:
    """The cages in use, by name. tree: the cgroup of all; None where the kernel keeps no budget."""

    def __init__(self, tree: Tree | None) -> None:
        self._tree = tree
        self._groups: dict[str, Group] = {}
        self._limits: dict[str, int] = {}

    def make(self, name: str, limit_bytes: int) -> Cage:
        """A cage for a process that is about to be born."""
        self._limits[name] = limit_bytes
        if self._tree is not None:
            try:
                group = self._groups[name] = self._tree.child(name, limit_bytes)
            except OSError as error:
                _log.error("no cgroup can be made for %s, which gets a limit of its own: %s", name, error)
            else:
                return Cage(str(group.path))
        return Cage("", limit_bytes)

    def names(self) -> Iterable[str]:
        """Of all cages in use."""
        return tuple(self._limits)

    def limit_bytes(self, name: str) -> int:
        """The limit in force; 0 when there is no such cage."""
        return self._limits.get(name, 0)

    def resize(self, name: str, limit_bytes: int, pid: int) -> None:
        """Change a limit, that of process `pid` where there are no cgroups; downwards only if that ends nobody."""
        change = limit_bytes - self._limits.get(name, limit_bytes)
        if abs(change) < _CHANGE_BYTES:
            return
        group = self._groups.get(name)
        with contextlib.suppress(OSError):  # Version 1 refuses a limit below what is in use.
            if group is None:
                shift_limit(pid, change)
            elif change > 0 or (group.used_bytes() or 0) < limit_bytes:
                group.set_limit(limit_bytes)
            else:
                return
            self._limits[name] = limit_bytes

    def held_bytes(self, name: str) -> int:
        """What is charged and can't be dropped: private and shared memory, and the kernel's for it; 0: unknown."""
        group = self._groups.get(name)
        return (group.held_bytes() or 0) if group is not None else 0

    def overrun_bytes(self, name: str) -> int:
        """The most that was in use, if the kernel ended a process for going beyond its limit; else 0."""
        group = self._groups.get(name)
        if group is None or not group.oom_kills():
            return 0
        return group.peak_bytes() or 1

    async def remove(self, name: str) -> None:
        """Kill what does not end inside by itself. Returns once it is gone, and its memory free."""
        group = self._groups.pop(name, None)
        self._limits.pop(name, None)
        began = time.monotonic()
        while group is not None and not group.remove_all():
            if time.monotonic() > began + _LEAVE_SECONDS:
                group.kill()
            if time.monotonic() > began + _EMPTY_SECONDS:
                _log.error("processes in %s do not end", group.path)
                return
            await asyncio.sleep(0.002)
