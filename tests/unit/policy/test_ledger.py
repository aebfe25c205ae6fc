from __future__ import annotations

import pytest

from smol.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from smol.policy.ledger import Kind, Ledger


def test_reservations_add_up_and_come_back() -> None:
    ledger = Ledger(100)
    ledger.reserve("worker:a", Kind.WORKER, 30, "a")
    ledger.reserve("model:a:m", Kind.MODEL, 20, "a")
    ledger.reserve("host", Kind.HOST, 10)
    assert (ledger.reserved_bytes, ledger.free_bytes, ledger.bytes_of_worker("a")) == (60, 40, 50)
    ledger.resize("model:a:m", 5)
    assert (ledger.free_bytes, ledger.bytes_of_worker("a")) == (55, 35)
    assert ledger.release_worker("a") == 35
    assert ledger.release_worker("a") == 0
    assert (ledger.reserved_bytes, [entry.key for entry in ledger.entries()]) == (10, ["host"])


def test_a_promise_beyond_the_budget_is_refused_and_changes_nothing() -> None:
    ledger = Ledger(100)
    ledger.reserve("a", Kind.CACHE, 60)
    with pytest.raises(ResourceExhausted) as error:
        ledger.reserve("b", Kind.CACHE, 41)
    assert error.value.details == {"needed_bytes": 41, "free_bytes": 40}
    with pytest.raises(ResourceExhausted):
        ledger.resize("a", 101)
    assert ledger.reserved_bytes == 60
    assert "b" not in ledger
    ledger.reserve("b", Kind.CACHE, 40)
    assert ledger.free_bytes == 0


def test_a_lowered_budget_follows_the_releases_down() -> None:
    ledger = Ledger(100)
    ledger.reserve("a", Kind.CACHE, 50)
    ledger.reserve("b", Kind.CACHE, 40)
    ledger.set_budget(60)
    assert (ledger.budget_bytes, ledger.target_bytes, ledger.free_bytes) == (90, 60, 0)
    ledger.resize("a", 45)
    assert ledger.budget_bytes == 85
    ledger.release("b")
    assert (ledger.budget_bytes, ledger.free_bytes) == (60, 15)


def test_mistakes_are_named() -> None:
    ledger = Ledger(100)
    ledger.reserve("a", Kind.BODY, 1)
    with pytest.raises(AlreadyExists, match="'a'"):
        ledger.reserve("a", Kind.BODY, 1)
    with pytest.raises(NotFound, match="'b'"):
        ledger.resize("b", 1)
    with pytest.raises(InvalidArgument, match="-1 bytes"):
        ledger.reserve("b", Kind.BODY, -1)
    with pytest.raises(InvalidArgument, match="budget is 0"):
        ledger.set_budget(0)
    assert ledger.release("nobody") == 0
    assert ledger.bytes_of("nobody") == 0
