"""How much memory processes, the tree and the machine take, as the kernel counts it. Decides nothing.

Every function takes the root of the file system, so that tests can show it any machine. Where there is no
/proc (macOS) sizes are 0 and facts None: nothing is guaranteed there, and nothing fails.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

__all__ = [
    "Gauge",
    "Machine",
    "Pressure",
    "children_of",
    "cpu_seconds",
    "machine",
    "pressure",
    "pss_bytes",
    "rss_bytes",
    "set_oom_score_adj",
    "tree_of",
    "tree_pss_bytes",
]

ROOT = Path("/")
KIB = 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Pressure(msgspec.Struct, frozen=True):
    """Percent of the last 10 s in which some, or all, tasks waited for memory (kernel's PSI)."""

    some: float
    full: float


class Machine(msgspec.Struct, frozen=True):
    """The machine's memory in bytes. None: the system does not tell.

    zram_bytes: RAM that holds swapped pages compressed, which looks free to nobody but counts against all.
    shm_bytes: what lies in /dev/shm and is released only when its files are removed.
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    swap_used_bytes: int | None = None
    zram_bytes: int | None = None
    shm_bytes: int | None = None
    pressure: Pressure | None = None


class Gauge:
    """PSS of processes at the price of RSS: the dear figure is read again only when the cheap one has moved.

    A figure may be off by what pages came to be shared or unshared since; it is at most `age_seconds` old.
    """

    def __init__(self, root: Path = ROOT, *, age_seconds: float = 30.0, moved_bytes: int = 1 << 20) -> None:
        self._root = root
        self._age_seconds = age_seconds
        self._moved_bytes = moved_bytes
        self._known: dict[int, tuple[float, int, int]] = {}

    def size_bytes(self, pid: int, now: float) -> int:
        """PSS, or 0 when the process is gone."""
        rss = rss_bytes(pid, self._root)
        if rss == 0:
            self._known.pop(pid, None)
            return 0
        at, old_rss, pss = self._known.get(pid, (float("-inf"), 0, 0))
        if abs(rss - old_rss) >= self._moved_bytes or now - at >= self._age_seconds:
            pss = pss_bytes(pid, self._root)
            self._known[pid] = (now, rss, pss)
        return pss

    def tree_bytes(self, pid: int, now: float) -> int:
        """The same for a process and all its descendants."""
        return sum(self.size_bytes(member, now) for member in tree_of(pid, self._root))

    def prune(self, now: float) -> None:
        """Forget processes that nobody has asked about for a while."""
        oldest = now - 2 * self._age_seconds
        self._known = {pid: known for pid, known in self._known.items() if known[0] >= oldest}


def pss_bytes(pid: int, root: Path = ROOT) -> int:
    """Proportional share of memory of a process, in bytes; 0 when it is gone or the system does not tell.

    The kernel walks all its mappings: 0.1 ms for a small process, several for one with gigabytes.
    """
    try:
        with open(f"{root}/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * KIB
    except (OSError, ValueError, IndexError):
        pass
    return 0


def cpu_seconds(pid: int, root: Path = ROOT) -> float:
    """Processor time a process has used, its own and the kernel's for it; 0 when it is gone or not told."""
    try:
        with open(f"{root}/proc/{pid}/stat", "rb") as file:
            user, system = file.read().rpartition(b")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def rss_bytes(pid: int, root: Path = ROOT) -> int:
    """Resident memory of a process, shared pages counted in full: cheap, never less than PSS; 0 when gone."""
    try:
        with open(f"{root}/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def children_of(pid: int, root: Path = ROOT) -> list[int]:
    """Direct children, those of each thread included; empty when gone or not told."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"{root}/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),
                open(f"{root}/proc/{pid}/task/{thread}/children", "rb") as file,
            ):
                children.extend(map(int, file.read().split()))
    return children


def tree_of(pid: int, root: Path = ROOT) -> list[int]:
    """A process and all its descendants. One that appears meanwhile may be missed."""
    found = [pid]
    for known in found:
        found.extend(child for child in children_of(known, root) if child not in found)
    return found


def tree_pss_bytes(pid: int, root: Path = ROOT) -> int:
    """PSS of a process and all its descendants: what they would give back together, but for what is shared
    with others."""
    return sum(pss_bytes(member, root) for member in tree_of(pid, root))


def pressure(root: Path = ROOT) -> Pressure | None:
    """Read /proc/pressure/memory; None where the kernel has no PSI, or has it switched off."""
    shares: dict[bytes, float] = {}
    try:
        with open(f"{root}/proc/pressure/memory", "rb") as file:
            for line in file:
                kind, average, *_ = line.split()
                shares[kind] = float(average.partition(b"=")[2])
    except (OSError, ValueError):
        return None
    return Pressure(shares.get(b"some", 0.0), shares.get(b"full", 0.0))


def machine(root: Path = ROOT) -> Machine:
    """One look at the machine. lxcfs shows a container's own figures here, Docker the whole machine's."""
    info = _meminfo(root)
    swap_used = None
    if b"SwapTotal" in info and b"SwapFree" in info:
        swap_used = info[b"SwapTotal"] - info[b"SwapFree"]
    available = info.get(b"MemAvailable")
    if available is None and b"MemFree" in info:  # kernels before 3.14, some containers
        available = info[b"MemFree"] + info.get(b"Cached", 0)
    return Machine(
        info.get(b"MemTotal"), available, swap_used, _zram_bytes(root), _shm_bytes(root), pressure(root)
    )


def _meminfo(root: Path) -> dict[bytes, int]:
    wanted = {b"MemTotal", b"MemAvailable", b"MemFree", b"Cached", b"SwapTotal", b"SwapFree"}
    found: dict[bytes, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"{root}/proc/meminfo", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name in wanted:
                found[name] = int(value.split()[0]) * KIB
                if len(found) == len(wanted):
                    break
    return found


def _zram_bytes(root: Path) -> int | None:
    """Third figure of each mm_stat: mem_used_total (Documentation/admin-guide/blockdev/zram.rst)."""
    total = None
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{root}/sys/block"):
            if name.startswith("zram"):
                with contextlib.suppress(ValueError, IndexError):
                    figures = Path(f"{root}/sys/block/{name}/mm_stat").read_bytes().split()
                    total = (total or 0) + int(figures[2])
    return total


def _shm_bytes(root: Path) -> int | None:
    try:
        status = os.statvfs(f"{root}/dev/shm")  # noqa: S108  (looked at, not written to)
    except (OSError, AttributeError):
        return None
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def set_oom_score_adj(pid: int, score: int, root: Path = ROOT) -> bool:
    """Tell the kernel whom to end first: -1000 never, 1000 first. Lowering needs root. False: not set."""
    try:
        with open(f"{root}/proc/{pid}/oom_score_adj", "w") as file:
            file.write(str(score))
    except OSError:
        return False
    return True
