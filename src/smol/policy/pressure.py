"""How short memory is: the budget's soft and hard marks, and the machine's own trouble."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from smol.policy.decisions import MIB, mib

__all__ = ["Level", "Marks", "Sample", "judge", "poll_seconds"]


class Level(IntEnum):
    """CALM: nothing to do. SOFT: trim, evict, degrade. HARD: refuse, then kill who is over."""

    CALM = 0
    SOFT = 1
    HARD = 2


class Marks(msgspec.Struct, frozen=True):
    """Where the levels begin. PSI marks are percent of the last 10 s (kernel's avg10); they count only while less
    than `psi_available_share` of the machine is available: who stalls at a limit of its own is no shortage.

    available_*: what the machine must keep, or that share of its memory if that is less. Beyond it a small
    board starts to swap to zram and stalls for minutes, so both lie before that.
    """

    soft: float = 0.85
    hard: float = 0.95
    psi_some_soft: float = 10.0
    psi_full_soft: float = 5.0
    psi_full_hard: float = 20.0
    psi_available_share: float = 0.25
    available_soft_bytes: int = 128 * MIB
    available_soft_share: float = 0.08
    available_hard_bytes: int = 48 * MIB
    available_hard_share: float = 0.03


class Sample(msgspec.Struct, frozen=True):
    """One look at the memory. None: this machine cannot say.

    used_bytes: what the whole tree uses, reclaimable file cache left out.
    """

    used_bytes: int
    available_bytes: int | None = None
    total_bytes: int | None = None
    psi_some: float | None = None
    psi_full: float | None = None


def judge(sample: Sample, budget_bytes: int, marks: Marks) -> tuple[Level, str]:
    """The level and the reason for it; the reason is empty when calm."""
    used = sample.used_bytes / budget_bytes
    some, full = (sample.psi_some or 0.0, sample.psi_full or 0.0) if _is_scarce(sample, marks) else (0.0, 0.0)
    of_budget = f"{mib(sample.used_bytes)} of {mib(budget_bytes)} are in use ({used:.0%})"
    if used >= marks.hard:
        return Level.HARD, f"{of_budget}, past the hard mark of {marks.hard:.0%}"
    if _below(sample, marks.available_hard_bytes, marks.available_hard_share):
        return Level.HARD, f"the machine has only {mib(sample.available_bytes or 0)} available"
    if full >= marks.psi_full_hard:
        return Level.HARD, f"the machine stalls on memory (PSI full {full:.0f} %)"
    if used >= marks.soft:
        return Level.SOFT, f"{of_budget}, past the soft mark of {marks.soft:.0%}"
    if _below(sample, marks.available_soft_bytes, marks.available_soft_share):
        return Level.SOFT, f"the machine has only {mib(sample.available_bytes or 0)} available"
    if some >= marks.psi_some_soft or full >= marks.psi_full_soft:
        return Level.SOFT, f"the machine waits for memory (PSI some {some:.0f} %, full {full:.0f} %)"
    return Level.CALM, ""


def poll_seconds(used_bytes: int, budget_bytes: int, *, is_enforced: bool) -> float:
    """How long to wait before measuring again: the less headroom, the shorter.

    Where the kernel enforces the budget, polling only serves to act in good time; where it does not, it is
    the only thing that holds it, and runs ten times as often at the end.
    """
    free = min(1.0, max(0.0, 1.0 - used_bytes / budget_bytes))
    fastest = 0.25 if is_enforced else 0.025
    return min(2.0, max(fastest, 4.0 * free * free))


def _is_scarce(sample: Sample, marks: Marks) -> bool:
    if sample.available_bytes is None or sample.total_bytes is None:
        return True
    return sample.available_bytes < marks.psi_available_share * sample.total_bytes


def _below(sample: Sample, mark_bytes: int, share: float) -> bool:
    if sample.available_bytes is None:
        return False
    if sample.total_bytes is not None:
        mark_bytes = min(mark_bytes, int(sample.total_bytes * share))
    return sample.available_bytes < mark_bytes
