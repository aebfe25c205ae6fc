from __future__ import annotations

from smol.host.refusals import refused
from smol.policy.decisions import Holder, Refuse


def test_who_is_refused_learns_what_was_needed_who_holds_it_and_when_to_come_back() -> None:
    error = refused(Refuse("t", 30, 10, (Holder("a", 90, "busy"),), 250, "no room"))
    assert error.message == "no room"
    assert error.details == {
        "needed_bytes": 30,
        "free_bytes": 10,
        "holders": [{"name": "a", "bytes": 90, "state": "busy"}],
        "retry_after_ms": 250,
    }


def test_a_call_that_is_to_wait_outside_learns_its_ticket_and_nothing_when_waiting_is_in_vain() -> None:
    details = refused(Refuse("t", 30, 10, (), None, "no room", repeat=True)).details
    assert details["repeat"] == "t"
    assert "retry_after_ms" not in details
