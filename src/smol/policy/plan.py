"""What if: would these units and models fit that budget, and how?

Plays the case through a governor of its own, so the answer is the one the running system would give.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from smol.policy.books import Settings
from smol.policy.costs import Cost, CostKey
from smol.policy.decisions import Admit, Decision, Evict, Refuse
from smol.policy.governor import Governor
from smol.policy.ledger import Kind
from smol.policy.workers import Ask, Model, Worker

__all__ = ["Fixed", "Outcome", "Plan", "PlanRow", "Wish", "plan"]

FAR = 1e9


class Outcome(StrEnum):
    """FITS: beside all before it. DEGRADED: so too, in a smaller variant. SWAPS: only after others were
    evicted. REFUSED: not at all."""

    FITS = "fits"
    DEGRADED = "degraded"
    SWAPS = "swaps"
    REFUSED = "refused"


class Fixed(msgspec.Struct, frozen=True):
    """What is always there: host, zygote, caches, room kept for message bodies."""

    name: str
    kind: Kind
    bytes: int


class Wish(msgspec.Struct, frozen=True):
    """A worker and the models it shall have loaded."""

    worker: Worker
    models: tuple[Model, ...] = ()


class PlanRow(msgspec.Struct, frozen=True):
    """What becomes of one wish. bytes: reserved for it while in use."""

    worker: str
    model: str | None
    outcome: Outcome
    variant: str | None
    bytes: int
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """fits: everything can be in use at the same time, if need be in smaller variants.

    reserved_bytes: by all that is in use at the same time.
    """

    budget_bytes: int
    fixed_bytes: int
    reserved_bytes: int
    fits: bool
    rows: tuple[PlanRow, ...]


def plan(
    budget_bytes: int,
    wishes: Iterable[Wish],
    fixed: Iterable[Fixed] = (),
    learned: Iterable[tuple[CostKey, Cost]] = (),
    settings: Settings | None = None,
) -> Plan:
    """Simulate all wishes in use at once, pinned ones first, then alone those that did not fit beside others.

    Raises InvalidArgument when the budget is not positive.
    """
    governor = Governor(budget_bytes, settings)
    governor.costs.restore(learned)
    warnings = [d for f in fixed for d in governor.hold(f.name, f.kind, f.bytes, 0.0)]
    fixed_bytes = governor.standing(0.0).reserved_bytes
    asks: list[Ask] = []
    for wish in sorted(wishes, key=lambda w: not w.worker.pinned):
        governor.declare(wish.worker)
        for model in wish.models or (None,):
            asks.append(Ask(f"plan-{len(asks)}", FAR, wish.worker.name, model))
    rows: dict[str, PlanRow] = {}
    later: list[Ask] = []
    for ask in asks:
        decisions = governor.ask(ask, 0.0)
        row = _row(governor, ask, decisions)
        if row is None:
            governor.finished(ask.ticket, 0.0)
            later.append(ask)
        else:
            rows[ask.ticket] = row
    reserved_bytes = governor.standing(0.0).reserved_bytes
    for ask in asks:
        governor.finished(ask.ticket, 0.0)
    for ask in later:
        rows[ask.ticket] = _swap_in(governor, ask)
    fits = not warnings and all(r.outcome in (Outcome.FITS, Outcome.DEGRADED) for r in rows.values())
    return Plan(budget_bytes, fixed_bytes, reserved_bytes, fits, tuple(rows[a.ticket] for a in asks))


def _swap_in(governor: Governor, ask: Ask) -> PlanRow:
    """Ask again while nothing is busy, and carry out the evictions."""
    decisions = governor.ask(ask, 1.0)
    evicted = [name for d in decisions if isinstance(d, Evict) for name in d.workers]
    for name in evicted:
        decisions += governor.released(name, 1.0)
    row = _row(governor, ask, decisions)
    governor.finished(ask.ticket, 1.0)
    if row is None:
        return PlanRow(ask.worker or "", _name(ask), Outcome.REFUSED, None, 0, "no room can be made for it")
    if row.outcome is Outcome.REFUSED:
        return row
    reason = f"only in turn with {', '.join(evicted)}" if evicted else row.reason
    return msgspec.structs.replace(row, outcome=Outcome.SWAPS, reason=reason)


def _row(governor: Governor, ask: Ask, decisions: tuple[Decision, ...]) -> PlanRow | None:
    """What the decisions say about this ask, or None when it has to wait."""
    for decision in decisions:
        if isinstance(decision, Refuse) and decision.ticket == ask.ticket:
            return PlanRow(ask.worker or "", _name(ask), Outcome.REFUSED, None, 0, decision.reason)
        if isinstance(decision, Admit) and decision.ticket == ask.ticket:
            best = ask.model.variants[0].name if ask.model else None
            outcome = Outcome.FITS if decision.variant == best else Outcome.DEGRADED
            before = governor.standing(0.0).reserved_bytes
            governor.loaded(ask.ticket, 0.0)
            size = decision.bytes - (before - governor.standing(0.0).reserved_bytes)
            reason = "" if outcome is Outcome.FITS else f"{best} does not fit beside the others"
            return PlanRow(ask.worker or "", _name(ask), outcome, decision.variant, size, reason)
    return None


def _name(ask: Ask) -> str | None:
    return ask.model.name if ask.model else None
