"""What this machine can hold a sandbox with, found by trying each layer, never by version."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Sequence

from smol.errors import FailedPrecondition, SmolError
from smol.sandbox.box import Box
from smol.sandbox.cgroup import Parent, find_parent
from smol.sandbox.keeper import Keeper
from smol.sandbox.kernel import landlock_abi
from smol.sandbox.kinds import python_kind, reachable_python
from smol.sandbox.records import LAYERS, Isolation, Job, Limits, Tier
from smol.sizes import MIB

__all__ = ["Ground", "explore"]


class Ground:
    """A nursery that works, the layers it can put on, and where cgroups are made."""

    def __init__(self, keeper: Keeper | None, isolation: Isolation, parent: Parent | None) -> None:
        self.keeper = keeper
        self.isolation = isolation
        self.parent = parent

    async def close(self) -> None:
        if self.keeper is not None:
            await self.keeper.close()


async def explore(without: Collection[str] = ()) -> Ground:
    """Try what there is. without: layers to do as if this machine did not have them."""
    missing = dict.fromkeys(without, "left out on request")
    if sys.platform != "linux":
        return _nothing(
            missing, f"{sys.platform} has none of these; run Smol on Linux, or in a Linux virtual machine"
        )
    parent = None
    if "cgroup" not in missing:
        try:
            parent = find_parent()
        except FailedPrecondition as error:
            missing["cgroup"] = error.message
    if "landlock" not in missing and not landlock_abi():
        missing["landlock"] = "the kernel has no Landlock, or it is switched off (boot with lsm=landlock,...)"
    if "uid" not in missing and os.geteuid() != 0:
        missing["uid"] = "needs root; a user's sandbox runs as that user, without any of its rights"
    problem = ""
    for private in (True, False):
        if private and "namespaces" in missing:
            continue
        if not private:
            missing.setdefault("namespaces", problem)
        layers = [layer for layer in LAYERS if layer not in missing]
        python = "" if private else reachable_python(layers)
        if python is None:
            missing["uid"] = "this Python lies in a directory that is closed to others"
            return _nothing(missing, "install a Python for all users: apt-get install python3")
        try:
            keeper = await _try(python, layers, parent)
        except SmolError as error:
            problem = error.message
            continue
        return Ground(keeper, _isolation(layers, missing), parent)
    missing.update({layer: problem for layer in LAYERS if layer not in missing})
    return _nothing(missing, problem)


async def _try(python: str, layers: Sequence[str], parent: Parent | None) -> Keeper:
    """A nursery that has made one sandbox, in which code has run. Raises SmolError."""
    keeper = await Keeper.started(python)
    try:
        limits = Limits(memory_bytes=64 * MIB)
        async with await Box.made(keeper, python_kind(keeper), layers, limits, parent) as box:
            outcome = await box.run(Job(source="import decimal; 6 * 7"), limits)
            if outcome.value != 42:
                detail = outcome.stderr.decode(errors="replace").strip().rpartition("\n")[2]
                raise FailedPrecondition(f"a first run failed: {outcome.verdict} {detail}")
    except BaseException:
        await keeper.close()
        raise
    return keeper


def _isolation(layers: Sequence[str], missing: dict[str, str]) -> Isolation:
    has = set(layers)
    tier: Tier = "none"
    if {"seccomp", "rlimits"} <= has:
        if "namespaces" in has:
            tier = "strong" if {"cgroup", "landlock"} <= has else "nocgroup"
        elif "landlock" in has:
            tier = "landlock"
    return Isolation(tier=tier, layers=list(layers), missing=missing, fix=_fix(missing))


def _fix(missing: dict[str, str]) -> str:
    """The one command that would help most."""
    if "namespaces" in missing:
        if os.path.exists("/.dockerenv") and os.geteuid() == 0:
            return "docker run --security-opt seccomp=unconfined --cap-add SYS_ADMIN ..."
        if _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
            return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        if _setting("/proc/sys/user/max_user_namespaces") == "0":
            return "sudo sysctl -w user.max_user_namespaces=15000"
        return "" if os.geteuid() == 0 else "sudo smol serve"
    if "cgroup" in missing:
        if shutil.which("systemd-run") and os.geteuid() != 0:
            return "systemd-run --user --scope -p Delegate=yes smol serve"
        return "sudo smol serve" if os.geteuid() != 0 else "mount -t cgroup2 none /sys/fs/cgroup"
    return ""


def _setting(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _nothing(missing: dict[str, str], reason: str) -> Ground:
    full = {layer: missing.get(layer, reason) for layer in LAYERS}
    return Ground(None, Isolation(tier="none", layers=[], missing=full, fix=_fix(full)), None)
