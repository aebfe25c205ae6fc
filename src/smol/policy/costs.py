"""What things cost in memory: declared first, then learned from measurement with a safety margin.

Keeping the learned figures across restarts is the store's work: `snapshot` and `restore` carry them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from smol.policy.decisions import MIB

__all__ = ["Cost", "CostKey", "Costs"]

MARGIN_NEW = 0.25
"""Added to a figure measured fewer than SURE_AFTER times."""
MARGIN_SURE = 0.10
"""Added to a figure measured often."""
MARGIN_FLOOR_BYTES = 2 * MIB
"""Added at least: two allocator arenas that happened not to be touched while measuring."""
SURE_AFTER = 3
FADE = 8
"""A peak that is not reached again fades by 1/FADE of the difference at each run, so one outlier heals."""


class CostKey(msgspec.Struct, frozen=True):
    """What a cost depends on. A worker without a model has empty model, variant and engine."""

    unit: str
    model: str = ""
    variant: str = ""
    engine: str = ""
    threads: int = 1


class Cost(msgspec.Struct, frozen=True):
    """Peaks seen while loading and while in use, in bytes; runs: how many were measured."""

    load_bytes: int = 0
    use_bytes: int = 0
    runs: int = 0


class Costs:
    """Estimates for reservations."""

    def __init__(self) -> None:
        self._learned: dict[CostKey, Cost] = {}

    def use_bytes(self, key: CostKey, declared_bytes: int) -> int:
        """Bytes to reserve while it is in use."""
        cost = self._learned.get(key)
        return self._padded(cost.use_bytes, cost.runs) if cost and cost.use_bytes else declared_bytes

    def load_bytes(self, key: CostKey, declared_bytes: int, declared_load_bytes: int) -> int:
        """Bytes to reserve while it loads; never less than while it is in use."""
        cost = self._learned.get(key)
        use = self.use_bytes(key, declared_bytes)
        load = self._padded(cost.load_bytes, cost.runs) if cost and cost.load_bytes else declared_load_bytes
        return max(use, load)

    def learn(self, key: CostKey, *, load_bytes: int = 0, use_bytes: int = 0) -> None:
        """Take in the peaks of one run; 0 where one was not measured."""
        old = self._learned.get(key, Cost())
        self._learned[key] = Cost(
            _blend(old.load_bytes, load_bytes), _blend(old.use_bytes, use_bytes), old.runs + 1
        )

    def snapshot(self) -> tuple[tuple[CostKey, Cost], ...]:
        """All that was learned, for the store."""
        return tuple(self._learned.items())

    def restore(self, learned: Iterable[tuple[CostKey, Cost]]) -> None:
        """Take in what the store kept."""
        self._learned.update(learned)

    @staticmethod
    def _padded(measured_bytes: int, runs: int) -> int:
        margin = MARGIN_SURE if runs >= SURE_AFTER else MARGIN_NEW
        return measured_bytes + max(MARGIN_FLOOR_BYTES, int(measured_bytes * margin))


def _blend(old_bytes: int, new_bytes: int) -> int:
    if new_bytes == 0 or new_bytes >= old_bytes:
        return max(old_bytes, new_bytes)
    return old_bytes - (old_bytes - new_bytes) // FADE
