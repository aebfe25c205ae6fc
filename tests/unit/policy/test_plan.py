from __future__ import annotations

import pytest

from smol.errors import InvalidArgument
from smol.policy.costs import Cost, CostKey
from smol.policy.ledger import Kind
from smol.policy.plan import Fixed, Outcome, Wish, plan
from smol.policy.workers import PAUSED, Model, Variant, Worker

MIB = 1 << 20
HOST = Fixed("host", Kind.HOST, 20 * MIB)
LADDER = Model(
    "detect",
    "nano",
    (Variant("fp32", 60 * MIB, load_bytes=70 * MIB), Variant("int8", 20 * MIB), Variant(PAUSED, 0)),
)


def test_what_fits_together_fits() -> None:
    found = plan(200 * MIB, [Wish(Worker("math", 6 * MIB)), Wish(Worker("detect", 10 * MIB), (LADDER,))], [HOST])
    assert found.fits
    assert [(row.worker, row.outcome, row.variant, row.bytes) for row in found.rows] == [
        ("math", Outcome.FITS, None, 6 * MIB),
        ("detect", Outcome.FITS, "fp32", 70 * MIB),
    ]
    assert (found.fixed_bytes, found.reserved_bytes) == (20 * MIB, 96 * MIB)


def test_a_smaller_variant_is_planned_where_the_best_does_not_fit() -> None:
    found = plan(70 * MIB, [Wish(Worker("math", 6 * MIB)), Wish(Worker("detect", 10 * MIB), (LADDER,))], [HOST])
    assert found.fits
    assert (found.rows[1].outcome, found.rows[1].variant) == (Outcome.DEGRADED, "int8")
    assert "fp32 does not fit" in found.rows[1].reason


def test_what_fits_only_in_turn_is_said_to_swap() -> None:
    found = plan(100 * MIB, [Wish(Worker("a", 50 * MIB)), Wish(Worker("b", 60 * MIB))], [HOST])
    assert not found.fits
    assert [row.outcome for row in found.rows] == [Outcome.FITS, Outcome.SWAPS]
    assert found.rows[1].reason == "only in turn with a"


def test_what_can_never_fit_is_refused_and_says_why() -> None:
    wishes = [Wish(Worker("a", 50 * MIB, pinned=True)), Wish(Worker("b", 60 * MIB))]
    found = plan(100 * MIB, reversed(wishes), [HOST])
    assert [(row.worker, row.outcome) for row in found.rows] == [("a", Outcome.FITS), ("b", Outcome.REFUSED)]
    assert "at most 30.0 MiB can ever be free" in found.rows[1].reason


def test_learned_costs_replace_declared_ones() -> None:
    learned = [(CostKey("a"), Cost(use_bytes=100 * MIB, runs=9))]
    found = plan(400 * MIB, [Wish(Worker("a", 5 * MIB))], [HOST], learned)
    assert found.rows[0].bytes == 110 * MIB


def test_who_needs_more_than_half_of_the_budget_must_declare_it() -> None:
    learned = [(CostKey("a"), Cost(use_bytes=100 * MIB, runs=9))]
    found = plan(200 * MIB, [Wish(Worker("a", 5 * MIB))], [HOST], learned)
    assert found.rows[0].bytes == 100 * MIB


def test_a_host_that_does_not_fit_itself_does_not_fit() -> None:
    assert not plan(10 * MIB, [], [HOST]).fits
    with pytest.raises(InvalidArgument):
        plan(0, [])
