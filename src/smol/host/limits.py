"""What memory limit is in force already, and what budget follows. Reads files; changes nothing.

Knows cgroup v2, v1, hybrid mounts, limits of any outer group that can be seen, containers with and without a
namespace of their own, lxcfs, and kernels that were started without the memory cgroup.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from smol.host.memory import ROOT, machine

__all__ = ["Budget", "Hierarchy", "Limit", "choose_budget", "find_hierarchy", "find_limit", "without_cgroup"]

MIB = 1 << 20
DEFAULT_BYTES = 2048 * MIB
UNLIMITED_BYTES = 1 << 60
"""v1 writes LONG_MAX rounded to pages for "no limit"; nothing real is that large."""
SYSTEM_SHARE, SYSTEM_BYTES = 8, 128 * MIB
"""Left to the rest of the machine: an eighth, at least this, at most a quarter."""


class Hierarchy(msgspec.Struct, frozen=True):
    """Where the memory cgroups are. version: 1 or 2. mount: the top seen here. own: this process's."""

    version: int
    mount: Path
    own: Path


class Limit(msgspec.Struct, frozen=True):
    """The tightest limit on this process and where it is set."""

    bytes: int
    where: str


class Budget(msgspec.Struct, frozen=True):
    """What Smol may use, and why not more."""

    bytes: int
    reason: str


def find_hierarchy(root: Path = ROOT, pid: int | str = "self") -> Hierarchy | None:
    """Which memory cgroup this process is in; None where there is none."""
    groups = dict(_groups(root, pid))
    mounts = list(_mounts(root, pid))
    if "memory" in groups:
        for kind, options, top, mount in mounts:
            if kind == "cgroup" and "memory" in options:
                return Hierarchy(1, mount, _own(mount, top, groups["memory"]))
    for kind, _, top, mount in mounts:
        if kind == "cgroup2" and "" in groups:
            own = _own(mount, top, groups[""])
            controllers = _read(own / "cgroup.controllers") or _read(mount / "cgroup.controllers") or ""
            if "memory" in controllers.split():
                return Hierarchy(2, mount, own)
    return None


def find_limit(root: Path = ROOT) -> Limit | None:
    """The tightest limit from this process's group up to the top of what can be seen."""
    hierarchy = find_hierarchy(root)
    if hierarchy is None:
        return None
    limits: list[Limit] = []
    for group in _upwards(hierarchy):
        names = ("memory.max", "memory.high") if hierarchy.version == 2 else ("memory.limit_in_bytes",)
        for name in names:
            if (size := _size(group / name)) is not None:
                shown = group.relative_to(hierarchy.mount)
                limits.append(Limit(size, f"{name} of the cgroup /{'' if shown == Path() else shown}"))
    if hierarchy.version == 1 and (size := _hierarchical_bytes(hierarchy.own)) is not None:
        limits.append(Limit(size, "a limit of an outer cgroup"))
    return min(limits, key=lambda limit: limit.bytes, default=None)


def choose_budget(configured_bytes: int | None = None, root: Path = ROOT) -> Budget:
    """The least of what is configured (default 2048 MiB), what a cgroup allows and the machine can bear."""
    wanted = configured_bytes if configured_bytes is not None else DEFAULT_BYTES
    said = "as configured" if configured_bytes is not None else "the default"
    choices = [(wanted, said)]
    if limit := find_limit(root):
        choices.append((limit.bytes, f"{limit.where} allows no more"))
    total = machine(root).total_bytes
    if total is not None:
        kept = min(max(total // SYSTEM_SHARE, SYSTEM_BYTES), total // 4)
        what = "this container" if _has_lxcfs(root) else "this machine"
        choices.append(
            (
                total - kept,
                f"{what} has {total / MIB:.0f} MiB, of which the rest of the system keeps {kept / MIB:.0f}",
            )
        )
    size, reason = min(choices, key=lambda choice: choice[0])
    if size < wanted:
        reason = f"{reason} ({wanted / MIB:.0f} MiB were {'configured' if configured_bytes else 'the default'})"
    return Budget(size, reason)


def without_cgroup(root: Path = ROOT) -> str:
    """Why there is no memory cgroup here, and what to do about it."""
    if not (root / "proc").is_dir():
        return "this system has no cgroups"
    words = (_read(root / "proc/cmdline") or "").split()
    is_disabled = any(word.startswith("cgroup_disable=") and "memory" in word for word in words)
    for line in (_read(root / "proc/cgroups") or "").splitlines():
        fields = line.split()
        is_disabled = is_disabled or (len(fields) == 4 and fields[0] == "memory" and fields[3] == "0")
    board = (_read(root / "proc/device-tree/model") or "").rstrip("\0\n")
    if is_disabled and "Raspberry" in board:
        return (
            "this kernel was started without the memory cgroup; add "
            "'cgroup_enable=memory cgroup_memory=1' to /boot/firmware/cmdline.txt and reboot"
        )
    if is_disabled:
        return "this kernel was started without the memory cgroup; remove cgroup_disable=memory and reboot"
    if not any(True for _ in _mounts(root, "self")):
        return "no cgroup file system is mounted; mount cgroup2 at /sys/fs/cgroup"
    return "the memory controller is not enabled for this process's cgroup; let its parent delegate it"


def _groups(root: Path, pid: int | str) -> Iterator[tuple[str, str]]:
    """Controller (empty for v2) and path of each line of /proc/PID/cgroup."""
    for line in (_read(root / f"proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path, pid: int | str) -> Iterator[tuple[str, list[str], str, Path]]:
    """Kind, super options, top and place of each cgroup mount (proc(5), mountinfo; a blank is \\040)."""
    for line in (_read(root / f"proc/{pid}/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) >= 5 and len(rest) >= 3 and rest[0] in ("cgroup", "cgroup2"):
            place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            yield rest[0], rest[2].split(","), fields[3], root / place.lstrip("/")


def _own(mount: Path, top: str, path: str) -> Path:
    """The group's directory. A container may see only itself, mounted at its top, under an outer path."""
    if path.startswith("/.."):
        return mount
    if top not in ("", "/") and (path == top or path.startswith(top + "/")):
        path = path[len(top) :]
    own = mount / path.lstrip("/")
    return own if own.is_dir() else mount


def _upwards(hierarchy: Hierarchy) -> Iterator[Path]:
    group = hierarchy.own
    while True:
        yield group
        if group in (hierarchy.mount, group.parent):
            return
        group = group.parent


def _hierarchical_bytes(group: Path) -> int | None:
    for line in (_read(group / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit" and value.isdigit() and int(value) < UNLIMITED_BYTES:
            return int(value)
    return None


def _has_lxcfs(root: Path) -> bool:
    lines = (_read(root / "proc/self/mountinfo") or "").splitlines()
    return any(" - fuse.lxcfs " in line and "/proc/meminfo" in line.split() for line in lines)


def _size(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def _read(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text()
    return None
