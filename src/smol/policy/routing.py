"""Whether a call goes on, waits or is refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Load", "Route", "route_call"]


class Route(StrEnum):
    FORWARD = "forward"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(slots=True)
class Load:
    """What one unit has to do.

    concurrency: calls it takes at once; queue: calls that may wait beyond them.
    call_seconds: smoothed duration of its calls; total: how many have finished.
    """

    concurrency: int
    queue: int
    in_flight: int = 0
    waiting: int = 0
    call_seconds: float = 0.0
    total: int = 0

    def finished(self, seconds: float) -> None:
        """A call took so long; an exponential average over about ten calls."""
        self.total += 1
        self.call_seconds += 0.1 * (seconds - self.call_seconds)

    def retry_after_ms(self) -> int:
        """A guess at when the queue will have room: one call's time for each that waits."""
        return max(50, round(1000 * self.call_seconds * (self.waiting + 1) / self.concurrency))


def route_call(load: Load, *, ready: bool) -> Route:
    """What to do with a call now. ready: whether the unit's worker takes calls.

    While it does not, the calls that it could take at once wait beyond the queue, or one without a queue
    would never be started.
    """
    if ready and load.in_flight < load.concurrency:
        return Route.FORWARD
    places = load.queue if ready else load.queue + load.concurrency
    return Route.WAIT if load.waiting < places else Route.REFUSE
