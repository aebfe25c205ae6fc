"""What the governor can decide: frozen facts the host carries out and writes to its event log.

Each one says why in `reason`, a sentence for people. None of them does anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

__all__ = [
    "Admit",
    "Decision",
    "Degrade",
    "Event",
    "Evict",
    "Holder",
    "Kill",
    "Queue",
    "Raise",
    "Refuse",
    "Restore",
    "Trim",
    "Warn",
    "mib",
]

MIB = 1 << 20


def mib(size_bytes: float) -> str:
    """A size as people read it: `12.5 MiB`."""
    return f"{size_bytes / MIB:.1f} MiB"


class Holder(msgspec.Struct, frozen=True):
    """Somebody who holds bytes of the budget; pinned and busy ones are not evicted."""

    name: str
    bytes: int
    state: str


class Admit(msgspec.Struct, frozen=True, tag="admit"):
    """The caller may go on; `finished(ticket)` must follow, whatever happens.

    load: the host must now load the worker or the model, then report `loaded` or `failed`. When false, it
    is there already or another ticket is loading it.
    bytes: newly reserved by this admission, the load's transient peak included.
    """

    ticket: str
    worker: str | None
    variant: str | None
    load: bool
    bytes: int
    reason: str


class Evict(msgspec.Struct, frozen=True, tag="evict"):
    """End these idle workers, then report `released` for each. `ticket`: for whom, if anyone."""

    workers: tuple[str, ...]
    bytes: int
    reason: str
    ticket: str | None = None


class Degrade(msgspec.Struct, frozen=True, tag="degrade"):
    """A unit's model goes one step down its ladder; it takes effect at its next load."""

    unit: str
    model: str
    from_variant: str
    to_variant: str
    reason: str


class Restore(msgspec.Struct, frozen=True, tag="restore"):
    """A unit's model goes one step up its ladder; it takes effect at its next load."""

    unit: str
    model: str
    from_variant: str
    to_variant: str
    reason: str


class Queue(msgspec.Struct, frozen=True, tag="queue"):
    """The caller waits; an `Admit` or `Refuse` with its ticket follows at `until` at the latest.

    until: seconds on the clock that the host passes as `now`.
    """

    ticket: str
    until: float
    reason: str


class Refuse(msgspec.Struct, frozen=True, tag="refuse"):
    """The caller gets RESOURCE_EXHAUSTED. retry_after_ms: None when waiting will not help.

    repeat: the call that asked should be taken back, and made again once there is room.
    """

    ticket: str
    needed_bytes: int
    free_bytes: int
    holders: tuple[Holder, ...]
    retry_after_ms: int | None
    reason: str
    repeat: bool = False


class Warn(msgspec.Struct, frozen=True, tag="warn"):
    """A worker, or a part of the host, uses more than its reservation."""

    subject: str
    reserved_bytes: int
    measured_bytes: int
    reason: str


class Raise(msgspec.Struct, frozen=True, tag="raise"):
    """A reservation has grown; the host raises the limits it enforces for it."""

    subject: str
    from_bytes: int
    to_bytes: int
    reason: str


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """End this worker at once, busy or not, then report `released`. The next start uses what was learned."""

    worker: str
    reserved_bytes: int
    measured_bytes: int
    reason: str


class Trim(msgspec.Struct, frozen=True, tag="trim"):
    """Give memory back without ending anything: caches, `malloc_trim`. No workers named: all of them."""

    reason: str
    workers: tuple[str, ...] = ()


Decision: TypeAlias = Admit | Evict | Degrade | Restore | Queue | Refuse | Warn | Raise | Kill | Trim


class Event(msgspec.Struct, frozen=True):
    """A decision and when it was made, in seconds on the host's clock."""

    at: float
    decision: Decision

    def concerns(self, subject: str) -> bool:
        """Whether the decision is about this ticket, worker, unit or model."""
        named: Iterable[object] = (
            getattr(self.decision, name, None) for name in ("ticket", "worker", "unit", "model", "subject")
        )
        words = getattr(self.decision, "ticket", None) or ""  # As `start math #3`, `detect/nanodet #4`.
        in_ticket = subject in (*words.split(), *re.split("[ /]", words))
        return in_ticket or subject in named or subject in getattr(self.decision, "workers", ())
