from __future__ import annotations

from smol.policy.costs import CostKey, Costs

MIB = 1 << 20
KEY = CostKey("classify", "small", "int8", "onnx", 2)


def test_what_was_never_measured_costs_what_is_declared() -> None:
    costs = Costs()
    assert costs.use_bytes(KEY, 50 * MIB) == 50 * MIB
    assert costs.load_bytes(KEY, 50 * MIB, 80 * MIB) == 80 * MIB
    assert costs.load_bytes(KEY, 50 * MIB, 0) == 50 * MIB


def test_a_measured_peak_gets_a_margin_that_shrinks_as_it_is_confirmed() -> None:
    costs = Costs()
    costs.learn(KEY, load_bytes=200 * MIB, use_bytes=100 * MIB)
    assert (costs.use_bytes(KEY, 1), costs.load_bytes(KEY, 1, 1)) == (125 * MIB, 250 * MIB)
    for _ in range(2):
        costs.learn(KEY, load_bytes=200 * MIB, use_bytes=100 * MIB)
    assert (costs.use_bytes(KEY, 1), costs.load_bytes(KEY, 1, 1)) == (110 * MIB, 220 * MIB)


def test_a_tiny_peak_gets_a_margin_of_two_mebibytes() -> None:
    costs = Costs()
    costs.learn(KEY, use_bytes=MIB)
    assert costs.use_bytes(KEY, 50 * MIB) == 3 * MIB


def test_a_higher_peak_counts_at_once_and_an_outlier_fades() -> None:
    costs = Costs()
    costs.learn(KEY, use_bytes=100 * MIB)
    costs.learn(KEY, use_bytes=180 * MIB)
    ((_, cost),) = costs.snapshot()
    assert cost.use_bytes == 180 * MIB
    costs.learn(KEY, use_bytes=100 * MIB)
    ((_, cost),) = costs.snapshot()
    assert cost.use_bytes == 170 * MIB
    for _ in range(30):
        costs.learn(KEY, use_bytes=100 * MIB)
    ((_, cost),) = costs.snapshot()
    assert 100 * MIB <= cost.use_bytes < 103 * MIB


def test_a_run_that_measured_nothing_takes_nothing_back() -> None:
    costs = Costs()
    costs.learn(KEY, use_bytes=100 * MIB)
    costs.learn(KEY)
    ((_, cost),) = costs.snapshot()
    assert (cost.use_bytes, cost.runs) == (100 * MIB, 2)


def test_loading_never_reserves_less_than_use() -> None:
    costs = Costs()
    costs.learn(KEY, load_bytes=10 * MIB, use_bytes=100 * MIB)
    assert costs.load_bytes(KEY, 1, 1) == costs.use_bytes(KEY, 1)


def test_what_was_learned_survives_by_its_snapshot() -> None:
    costs, later = Costs(), Costs()
    costs.learn(KEY, use_bytes=100 * MIB)
    later.restore(costs.snapshot())
    assert later.use_bytes(KEY, 1) == costs.use_bytes(KEY, 1)
    assert later.use_bytes(CostKey("classify", "small", "fp32"), 7) == 7
