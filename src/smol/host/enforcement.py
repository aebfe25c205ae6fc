"""Which guarantee is in force, by its honest name, and the weaker one for where the kernel does not enforce.

    hard      a cgroup holds the whole tree: the kernel itself keeps the budget
    process   each worker has limits of its own, and the host polls and ends who overruns
    none      nothing but cooperation (macOS)

RLIMIT_DATA stops private writable memory (heap, anonymous maps, thread stacks) with a MemoryError in the
worker. It does not stop shared memory, memfd and /dev/shm, nor many processes at once: polling sees those.
RLIMIT_AS would stop shared maps too, but also counts a model file that is merely mapped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from smol.errors import FailedPrecondition
from smol.host.cgroup import Tree, make_tree
from smol.host.memory import ROOT

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "Enforcement",
    "Guarantee",
    "enforce",
    "limit_process",
    "release",
    "scope_command",
    "shift_limit",
    "try_enforcement",
]

KIB = 1024
STACK_BYTES = 8 << 20
"""What glibc maps for a native thread, all of which counts though little of it is ever touched."""
_RELEASE_SECONDS = 2.0


class Guarantee(StrEnum):
    """How well the budget is kept."""

    HARD = "hard"
    PROCESS = "process"
    NONE = "none"


class Enforcement(msgspec.Struct, frozen=True):
    """What is in force. missing: why it is not better and what would make it so, or empty."""

    guarantee: Guarantee
    means: str
    missing: str = ""
    tree: Tree | None = None


def enforce(budget_bytes: int, root: Path = ROOT) -> Enforcement:
    """Put the best there is in force for this process and all it will start."""
    if sys.platform != "linux":
        return Enforcement(
            Guarantee.NONE,
            "nothing keeps the budget but the units themselves",
            f"{sys.platform} has no cgroups; run Smol on Linux, or in a Linux container with a memory limit",
        )
    try:
        tree = make_tree(budget_bytes, root)
    except FailedPrecondition as error:
        return Enforcement(
            Guarantee.PROCESS, "RLIMIT_DATA for each worker, and polling of what they use", error.message
        )
    means = f"memory cgroup version {tree.top.version} at {tree.top.path}"
    return Enforcement(Guarantee.HARD, means, "", tree)


class Trial(msgspec.Struct, frozen=True):
    """What `enforce` would put in force."""

    guarantee: str
    means: str
    missing: str


def try_enforcement(budget_bytes: int) -> Trial:
    """Find out in a process of its own, and undo it. For a process without threads."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = enforce(budget_bytes)
            os.write(writer, msgspec.json.encode(Trial(found.guarantee, found.means, found.missing)))
            release(found)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(data, type=Trial)


def release(enforcement: Enforcement) -> bool:
    """Undo `enforce`, once all processes have ended. False when some have not within two seconds."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while enforcement.tree is not None and not enforcement.tree.remove():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def scope_command(
    argv: Sequence[str], environment: Mapping[str, str] = os.environ, root: Path = ROOT
) -> list[str] | None:
    """The command that runs `argv` again in a delegated scope of the user's service manager.

    None when there is no such manager. `argv` must say that it was done, lest it be done over and over.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if not runtime:
        return None
    manager = root / runtime.lstrip("/") / "systemd/private"
    programs = (root / folder.lstrip("/") / "systemd-run" for folder in environment.get("PATH", "").split(":"))
    if not manager.exists() or not any(os.access(program, os.X_OK) for program in programs):
        return None
    return ["systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "--", *argv]


def limit_process(size_bytes: int, threads: int = 4) -> int | None:
    """Limit the private writable memory of this process to `size_bytes` beyond what it has now.

    Call in the worker, after the fork and before the unit's code: what was inherited is not held against it.
    threads: how many may start; the stack of each counts in full. It can be raised again: this stops accidents,
    not malice. Returns it in bytes, or None where it does not work.
    """
    if resource is None or sys.platform != "linux":
        return None
    limit = _private_bytes() + size_bytes + threads * STACK_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return limit


def shift_limit(pid: int, by_bytes: int) -> None:
    """Raise or lower what `limit_process` set in a process. Raises OSError when it is gone or not ours."""
    if pid and hasattr(resource, "prlimit"):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY:
            resource.prlimit(pid, resource.RLIMIT_DATA, (max(0, soft + by_bytes), hard))


def _private_bytes() -> int:
    """VmData: what RLIMIT_DATA compares with."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmData:"):
                return int(line.split()[1]) * KIB
    return 0
