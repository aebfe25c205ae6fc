"""When to restart a worker that crashed, and when to give up.

Intensity and period as in OTP's supervisors; delays grow exponentially with jitter. Pure: the clock
and the dice are the caller's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["RestartHistory", "RestartPolicy"]

_FIRST_SECONDS = 0.05
_LONGEST_SECONDS = 30.0
_JITTER = 0.25
_PROVEN_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """More than `max_restarts` within `period_seconds` is too often."""

    max_restarts: int = 5
    period_seconds: float = 60.0


@dataclass(slots=True)
class RestartHistory:
    """The recent crashes of one worker.

    A crash of a worker that had answered calls since its start weighs a tenth, so that a worker which
    is killed now and then under load is kept, while one that can't get going is not.
    """

    policy: RestartPolicy
    _crashes: deque[tuple[float, float]] = field(default_factory=deque)
    _in_a_row: int = 0

    def record(self, now: float, *, proven: bool, dice: float) -> float | None:
        """Note a crash; return the seconds to wait before the next start, None to give up.

        now: seconds of any steady clock. proven: whether it had answered calls. dice: 0 to 1.
        """
        while self._crashes and self._crashes[0][0] <= now - self.policy.period_seconds:
            self._crashes.popleft()
        if not self._crashes:
            self._in_a_row = 0  # It has been well for a whole period.
        self._crashes.append((now, _PROVEN_WEIGHT if proven else 1.0))
        if sum(weight for _, weight in self._crashes) > self.policy.max_restarts:
            return None
        if proven:
            self._in_a_row = 0
            return 0.0
        delay = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0**self._in_a_row)
        self._in_a_row = min(self._in_a_row + 1, 32)
        return delay * (1 - _JITTER + 2 * _JITTER * dice)

    def forget(self) -> None:
        """Start anew, as after a person's reset."""
        self._crashes.clear()
        self._in_a_row = 0
