"""A mixed load within a budget that it does not fit in: `benchmarks.squeeze`, for seconds instead of minutes."""

from __future__ import annotations

import pytest

from benchmarks.squeeze import squeeze
from smol.sizes import MIB


@pytest.mark.timeout(120)
@pytest.mark.parametrize("budget_mib", [512, 192])
def test_the_budget_holds_and_everybody_is_answered(budget_mib: int) -> None:
    tally, memory = squeeze(budget_mib, seconds=6)
    assert tally.faults == []
    assert memory["peak_bytes"] <= budget_mib * MIB
    assert tally.counts["math.evaluate", "done"] > 10
    done = sum(count for (_, outcome), count in tally.counts.items() if outcome == "done")
    assert done > 20
