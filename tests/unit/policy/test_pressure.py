from __future__ import annotations

import pytest

from smol.policy.pressure import Level, Marks, Sample, judge, poll_seconds

MIB = 1 << 20
GIB = 1 << 30

CASES: dict[str, tuple[Sample, Level, str]] = {
    "just below the soft mark": (Sample(849), Level.CALM, ""),
    "at the soft mark": (Sample(850), Level.SOFT, "past the soft mark of 85%"),
    "at the hard mark": (Sample(950), Level.HARD, "past the hard mark of 95%"),
    "beyond the budget": (Sample(2000), Level.HARD, "200%"),
    "a machine that says nothing": (Sample(1), Level.CALM, ""),
    "a large machine with little left": (
        Sample(1, 100 * MIB, 64 * GIB),
        Level.SOFT,
        "only 100.0 MiB available",
    ),
    "a large machine with almost nothing": (
        Sample(1, 40 * MIB, 64 * GIB),
        Level.HARD,
        "only 40.0 MiB available",
    ),
    "a small machine has smaller marks": (Sample(1, 100 * MIB, GIB), Level.CALM, ""),
    "a small machine at its mark": (Sample(1, 80 * MIB, GIB), Level.SOFT, "80.0 MiB"),
    "a small machine at its end": (Sample(1, 30 * MIB, GIB), Level.HARD, "30.0 MiB"),
    "some tasks wait": (Sample(1, psi_some=10.0), Level.SOFT, "PSI some 10 %"),
    "all tasks wait at times": (Sample(1, psi_full=5.0), Level.SOFT, "full 5 %"),
    "all tasks stall": (Sample(1, psi_full=20.0), Level.HARD, "stalls"),
    "little waiting": (Sample(1, psi_some=9.0, psi_full=4.0), Level.CALM, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_level_and_its_reason(case: str) -> None:
    sample, level, words = CASES[case]
    found, reason = judge(sample, 1000, Marks())
    assert found is level
    assert words in reason
    assert bool(reason) == (level is not Level.CALM)


def test_measuring_speeds_up_as_the_headroom_shrinks_and_most_where_nothing_else_holds_the_budget() -> None:
    for is_enforced, fastest in ((True, 0.25), (False, 0.025)):
        waits = [poll_seconds(used, 100, is_enforced=is_enforced) for used in range(0, 130, 5)]
        assert waits == sorted(waits, reverse=True)
        assert (waits[0], waits[-1]) == (2.0, fastest)
