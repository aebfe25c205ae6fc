"""The life of a worker, its restarts, and the routing of calls: pure, so without a process or a clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import FailedPrecondition, InvalidArgument
from smol.policy.lifecycle import TRANSITIONS, Change, WorkerState, advance, start_order
from smol.policy.restart import RestartHistory, RestartPolicy
from smol.policy.routing import Load, Route, route_call

CHANGES = st.lists(st.sampled_from(Change), max_size=60)
NAMES = st.sampled_from("abcdef")


def test_every_state_has_a_row_and_can_be_left() -> None:
    assert set(TRANSITIONS) == set(WorkerState)
    assert all(any(after is not state for after in row.values()) for state, row in TRANSITIONS.items())


@given(CHANGES)
def test_an_illegal_change_changes_nothing_and_a_ready_worker_was_started(changes: list[Change]) -> None:
    state, started = WorkerState.DECLARED, False
    for change in changes:
        try:
            after = advance(state, change)
        except FailedPrecondition:
            continue
        started = (started or change is Change.START) and change is not Change.RESET
        assert after is not WorkerState.READY or started
        state = after


def test_a_failed_worker_is_only_started_after_a_reset() -> None:
    with pytest.raises(FailedPrecondition):
        advance(WorkerState.FAILED, Change.START)
    assert advance(advance(WorkerState.FAILED, Change.RESET), Change.START) is WorkerState.STARTING


@given(st.dictionaries(NAMES, st.sets(NAMES)))
def test_each_unit_starts_after_what_it_needs_or_the_circle_is_named(needs: dict[str, set[str]]) -> None:
    try:
        order = start_order(needs)
    except InvalidArgument as error:
        circle = error.message.rpartition(": ")[2].split(" → ")
        assert circle[0] == circle[-1]
        assert all(need in needs[name] for name, need in itertools.pairwise(circle))
        return
    assert sorted(order) == sorted(needs)
    for name, wanted in needs.items():
        assert all(order.index(need) < order.index(name) for need in wanted if need in needs)


def test_a_chain_of_thousands_is_ordered_without_recursion() -> None:
    needs = {str(number): {str(number + 1)} for number in range(5000)}
    assert start_order(needs)[0] == "4999"


def test_delays_grow_until_it_is_given_up() -> None:
    history = RestartHistory(RestartPolicy(max_restarts=5, period_seconds=60))
    delays = [history.record(now, proven=False, dice=0.5) for now in range(6)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, None]


def test_crashes_long_ago_are_forgotten() -> None:
    history = RestartHistory(RestartPolicy(max_restarts=1, period_seconds=10))
    assert all(history.record(now, proven=False, dice=0.5) is not None for now in range(0, 200, 11))


def test_a_worker_that_worked_is_back_at_once_and_kept_longer() -> None:
    history = RestartHistory(RestartPolicy(max_restarts=5, period_seconds=60))
    delays = [history.record(now / 10, proven=True, dice=0.5) for now in range(60)]
    assert delays[:50] == [0.0] * 50
    assert delays[-1] is None


@given(st.floats(0, 1), st.integers(1, 40))
def test_jitter_keeps_delays_within_a_quarter(dice: float, crashes: int) -> None:
    history = RestartHistory(RestartPolicy(max_restarts=1000, period_seconds=60))
    for _ in range(crashes):
        delay = history.record(0.0, proven=False, dice=dice)
    assert delay is not None
    exact = min(30.0, 0.05 * 2 ** (crashes - 1))
    assert 0.75 * exact <= delay <= 1.25 * exact + 1e-9


@pytest.mark.parametrize(
    ("in_flight", "waiting", "ready", "route"),
    [
        (0, 0, True, Route.FORWARD),
        (1, 0, True, Route.FORWARD),
        (2, 0, True, Route.WAIT),
        (2, 2, True, Route.WAIT),
        (2, 3, True, Route.REFUSE),
        (0, 0, False, Route.WAIT),
        (0, 4, False, Route.WAIT),
        (0, 5, False, Route.REFUSE),
    ],
)
def test_a_call_goes_on_or_waits_or_is_refused(in_flight: int, waiting: int, ready: bool, route: Route) -> None:
    load = Load(concurrency=2, queue=3, in_flight=in_flight, waiting=waiting)
    assert route_call(load, ready=ready) is route


def test_the_advice_when_to_try_again_follows_the_calls() -> None:
    load = Load(concurrency=2, queue=3, waiting=3)
    assert load.retry_after_ms() == 50
    for _ in range(100):
        load.finished(1.0)
    assert 1900 < load.retry_after_ms() <= 2000
