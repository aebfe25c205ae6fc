"""Leak watch: does a worker's memory grow without bound?

The slope is Theil and Sen's: the median of the slopes between all pairs of samples (H. Theil 1950, P. K. Sen
1968), which up to 29 % of wild samples do not move. It sees numbers only; the governor decides what follows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import combinations

from smol.policy.decisions import MIB

__all__ = ["LeakWatch", "slope_bytes_per_second"]

SAMPLES = 24
"""Kept per worker: 276 pairs, about 60 µs of work for each verdict."""
WARM_UP_SECONDS = 60.0
SPAN_SECONDS = 120.0
"""The samples must cover at least this long before there is a verdict."""
GROWTH_BYTES = 16 * MIB
"""And show at least this growth along the slope: allocators settle, caches fill."""
RISING_SHARE = 0.8
"""And at least this share of the pairs must rise: a saw-tooth or a single step is no leak."""
RECENT_SHARE = 0.4
"""And the newer half must rise at this share of the whole slope at least: a cache that fills levels off."""


def slope_bytes_per_second(samples: list[tuple[float, int]]) -> tuple[float, float]:
    """The Theil-Sen slope of (second, bytes) samples and the share of pairs that rise; zeros below two."""
    slopes = sorted((b - a) / (t - s) for (s, a), (t, b) in combinations(samples, 2) if t > s)
    if not slopes:
        return 0.0, 0.0
    middle = len(slopes) // 2
    median = slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
    return median, 1.0 - bisect_right(slopes, 0.0) / len(slopes)


class LeakWatch:
    """Samples of one worker since it was ready, thinned so that they always span the last while.

    warm_up_seconds: samples younger than this are ignored, for the memory of the first calls is no leak.
    """

    def __init__(
        self,
        ready_at: float,
        *,
        warm_up_seconds: float = WARM_UP_SECONDS,
        span_seconds: float = SPAN_SECONDS,
        growth_bytes: int = GROWTH_BYTES,
    ) -> None:
        self._first_at = ready_at + warm_up_seconds
        self._span_seconds = span_seconds
        self._growth_bytes = growth_bytes
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def add(self, now: float, size_bytes: int) -> bool:
        """Take one sample and return whether it was kept, hence whether a new verdict is worth asking for."""
        due = self._samples[-1][0] + 2 * self._span_seconds / SAMPLES if self._samples else self._first_at
        if now < due:
            return False
        self._samples.append((now, size_bytes))
        return True

    def verdict(self) -> str | None:
        """Why this is a leak, as text, or None."""
        if len(self._samples) < SAMPLES // 3:
            return None
        span = self._samples[-1][0] - self._samples[0][0]
        if span < self._span_seconds:
            return None
        samples = list(self._samples)
        slope, rising = slope_bytes_per_second(samples)
        if slope * span < self._growth_bytes or rising < RISING_SHARE:
            return None
        recent, _ = slope_bytes_per_second(samples[len(samples) // 2 :])
        if recent < slope * RECENT_SHARE:
            return None
        return (
            f"it grew by {slope * 60 / MIB:.2f} MiB a minute over {span:.0f} s "
            f"({rising:.0%} of the sample pairs rise) and does not level off"
        )
