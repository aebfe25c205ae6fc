"""Facts the governor decides from: workers, models with their ladders, and what callers ask for."""

from __future__ import annotations

import msgspec

from smol.errors import InvalidArgument
from smol.policy.costs import CostKey
from smol.policy.leak import LeakWatch
from smol.policy.ledger import Kind

__all__ = ["PAUSED", "Ask", "Model", "Part", "Resident", "Variant", "Worker"]

PAUSED = "paused"
"""The name of a variant that serves nothing: the last step of a ladder, taken only under pressure."""

SMOOTHING = 0.3
"""Weight of the newest observation in running means."""


class Variant(msgspec.Struct, frozen=True):
    """One form of a model. bytes: declared for its use; load_bytes: while it loads, 0 for the same."""

    name: str
    bytes: int
    load_bytes: int = 0
    engine: str = ""
    threads: int = 1


class Model(msgspec.Struct, frozen=True):
    """A model of a unit and its ladder of variants, best first."""

    unit: str
    name: str
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variants or self.variants[0].name == PAUSED:
            raise InvalidArgument(f"the model {self.key!r} has no variant that serves; declare at least one")
        if any(v.name == PAUSED for v in self.variants[:-1]):
            raise InvalidArgument(f"the model {self.key!r} has steps below {PAUSED!r}; make it the last one")

    @property
    def key(self) -> str:
        return f"{self.unit}/{self.name}"

    def cost_key(self, variant: Variant) -> CostKey:
        return CostKey(self.unit, self.name, variant.name, variant.engine, variant.threads)


class Worker(msgspec.Struct, frozen=True):
    """A worker as declared.

    base_bytes: declared cost without models. weight: above 1 it is kept longer than others, below 1 shorter.
    reload_seconds: a first guess of what starting it again costs; measured later.
    idle_seconds: evicted after so long without a call; None: stays until the room is needed.
    """

    name: str
    base_bytes: int
    pinned: bool = False
    weight: float = 1.0
    reload_seconds: float = 1.0
    idle_seconds: float | None = 600.0

    def __post_init__(self) -> None:
        if self.base_bytes < 0 or self.weight <= 0 or self.reload_seconds <= 0:
            raise InvalidArgument(
                f"the worker {self.name!r} declares {self.base_bytes} bytes, weight {self.weight:g} and a "
                f"reload of {self.reload_seconds:g} s; "
                "bytes may not be negative, weight and reload must be positive"
            )


class Ask(msgspec.Struct, frozen=True):
    """A caller's wish for room.

    With a worker: that it runs and has the model loaded. Without: `bytes` of `kind` for a while.
    deadline: seconds on the clock that the host passes as `now`; urgent_at: the first deadline of those it asks
    for, if they have several.
    beside: a worker that must have room at the same time, as the body of a call and who takes it.
    inside: it is asked from within a call that the worker itself runs, so its end can't be waited for.
    repeatable: rather than wait there, holding what it has, that call would be taken back and made again.
    keep_alive_seconds: overrides the worker's idle_seconds from this call on.
    """

    ticket: str
    deadline: float
    worker: str | None = None
    model: Model | None = None
    kind: Kind = Kind.BODY
    bytes: int = 0
    keep_alive_seconds: float | None = None
    urgent_at: float | None = None
    beside: str | None = None
    inside: bool = False
    repeatable: bool = False


class Part(msgspec.Struct):
    """What a worker holds a reservation for: its base, or a model. settled_bytes: after loading."""

    key: str
    kind: Kind
    cost: CostKey
    load_bytes: int
    settled_bytes: int
    variant: str | None = None
    model: str | None = None
    loading: bool = True


class Habits:
    """What was observed of a worker; survives its evictions."""

    __slots__ = ("finished_at", "gap_seconds", "hold_seconds", "reload_seconds")

    def __init__(self, reload_seconds: float) -> None:
        self.reload_seconds = reload_seconds
        self.hold_seconds = 0.0
        self.gap_seconds: float | None = None
        self.finished_at: float | None = None

    def saw_load(self, seconds: float) -> None:
        self.reload_seconds += SMOOTHING * (max(seconds, 0.001) - self.reload_seconds)

    def saw_call(self, seconds: float, now: float) -> None:
        self.hold_seconds += SMOOTHING * (seconds - self.hold_seconds)
        self.finished_at = now

    def saw_gap(self, now: float) -> None:
        """A call arrived while none was in flight: how long after the last one?"""
        if self.finished_at is not None:
            gap = now - self.finished_at
            self.gap_seconds = (
                gap if self.gap_seconds is None else self.gap_seconds + SMOOTHING * (gap - self.gap_seconds)
            )


class Resident:
    """A worker that holds reservations, from its admission until its process is gone.

    ready_at: when it was loaded last. leaving: why it was told to end, or empty.
    stale: why it takes no new calls and is evicted once idle, or empty.
    """

    __slots__ = (
        "granted_bytes",
        "habits",
        "idle_seconds",
        "idle_since",
        "in_flight",
        "leak",
        "leaving",
        "load_peak_bytes",
        "measured_bytes",
        "over_since",
        "parts",
        "peak_bytes",
        "pinned",
        "ready_at",
        "stale",
        "worker",
    )

    def __init__(self, worker: Worker, habits: Habits, pinned: bool, now: float) -> None:
        self.worker = worker
        self.habits = habits
        self.pinned = pinned
        self.idle_seconds = worker.idle_seconds
        self.idle_since = now
        self.ready_at = now
        self.in_flight = 0
        self.parts: dict[str, Part] = {}
        self.granted_bytes = 0
        self.measured_bytes = 0
        self.peak_bytes = 0
        self.load_peak_bytes = 0
        self.over_since: float | None = None
        self.leak: LeakWatch | None = None
        self.leaving = ""
        self.stale = ""

    @property
    def name(self) -> str:
        return self.worker.name

    @property
    def loading(self) -> bool:
        return any(part.loading for part in self.parts.values())

    @property
    def settling_bytes(self) -> int:
        """What loads in progress will give back when they are done."""
        return sum(part.load_bytes - part.settled_bytes for part in self.parts.values() if part.loading)

    @property
    def state(self) -> str:
        if self.leaving:
            return "leaving"
        if self.loading:
            return "loading"
        busy = "busy" if self.in_flight else "idle"
        return f"{busy}, pinned" if self.pinned else busy
