"""Decisions case by case, on a clock that the tests set."""

from __future__ import annotations

import pytest

from smol.errors import AlreadyExists, InvalidArgument, NotFound
from smol.policy.books import Settings
from smol.policy.decisions import (
    Admit,
    Decision,
    Degrade,
    Evict,
    Kill,
    Queue,
    Raise,
    Refuse,
    Restore,
    Trim,
    Warn,
)
from smol.policy.governor import Governor
from smol.policy.ledger import Kind
from smol.policy.pressure import Sample
from smol.policy.workers import PAUSED, Ask, Model, Variant, Worker

MIB = 1 << 20
LADDER = Model("detect", "nano", (Variant("fp32", 60 * MIB), Variant("int8", 30 * MIB), Variant(PAUSED, 0)))


def governor(budget_mib: int = 100, host_mib: int = 20) -> Governor:
    """With a host and three workers of 30 MiB: a, b and c."""
    made = Governor(budget_mib * MIB)
    made.hold("host", Kind.HOST, host_mib * MIB, 0.0)
    for name in ("a", "b", "c"):
        made.declare(Worker(name, 30 * MIB))
    return made


def load(made: Governor, worker: str, now: float, model: Model | None = None) -> str:
    """Ask for a worker that fits, load it, finish the call; it is idle from `now` on. Returns the variant."""
    ticket = f"load-{worker}-{now}"
    (admitted,) = made.ask(Ask(ticket, now + 10, worker, model), now)
    assert isinstance(admitted, Admit)
    made.loaded(ticket, now)
    made.finished(ticket, now)
    return admitted.variant or ""


def only(kind: type[Decision], decisions: tuple[Decision, ...]) -> list[Decision]:
    return [decision for decision in decisions if isinstance(decision, kind)]


def test_what_fits_is_admitted_and_reserved() -> None:
    made = governor()
    (decision,) = made.ask(Ask("t", 10.0, "a"), 0.0)
    assert decision == Admit("t", "a", None, True, 30 * MIB, "30.0 MiB were free for a")
    assert made.standing(0.0).reserved_bytes == 50 * MIB


def test_a_second_call_joins_the_loaded_worker_for_nothing() -> None:
    made = governor()
    load(made, "a", 0.0)
    (decision,) = made.ask(Ask("t", 10.0, "a"), 1.0)
    assert isinstance(decision, Admit)
    assert (decision.load, decision.bytes) == (False, 0)


def test_a_call_during_the_load_joins_it_and_does_not_load_twice() -> None:
    made = governor()
    made.ask(Ask("t", 10.0, "a"), 0.0)
    (decision,) = made.ask(Ask("u", 10.0, "a"), 0.1)
    assert isinstance(decision, Admit)
    assert not decision.load


def test_the_longest_idle_worker_is_evicted_and_the_caller_waits_for_its_end() -> None:
    made = governor()
    load(made, "a", 0.0)
    load(made, "b", 5.0)
    evict, queue = made.ask(Ask("t", 20.0, "c"), 10.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("a",)
    assert "idle 10.0 s" in evict.reason
    assert isinstance(queue, Queue)
    (admitted,) = made.released("a", 10.1)
    assert isinstance(admitted, Admit)
    assert admitted.ticket == "t"


def test_what_reloads_slowly_or_weighs_more_stays_longer() -> None:
    made = governor()
    made.declare(Worker("a", 30 * MIB, weight=10.0))
    load(made, "a", 0.0)
    load(made, "b", 5.0)
    evict, _ = made.ask(Ask("t", 20.0, "c"), 10.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("b",)


def test_pinned_and_busy_workers_are_not_evicted() -> None:
    made = governor()
    load(made, "a", 0.0)
    load(made, "b", 0.0)
    made.pin("a", True, 1.0)
    made.ask(Ask("busy", 100.0, "b"), 1.0)
    decisions = made.ask(Ask("t", 3.0, "c"), 2.0)
    assert [type(d) for d in decisions] == [Queue]
    assert "busy" in decisions[0].reason


def test_a_caller_gets_in_when_the_busy_worker_has_finished() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.ask(Ask("busy", 100.0, "b"), 1.0)
    made.loaded("busy", 1.0)
    made.pin("a", True, 1.0)
    made.ask(Ask("t", 30.0, "c"), 2.0)
    (evict,) = made.finished("busy", 3.0)
    assert isinstance(evict, Evict)
    assert (evict.workers, evict.ticket) == (("b",), "t")


def test_a_waiting_caller_is_refused_at_its_deadline_with_the_holders_named() -> None:
    made = governor()
    for name in ("a", "b"):
        made.ask(Ask(f"busy-{name}", 100.0, name), 0.0)
    made.ask(Ask("t", 3.0, "c"), 1.0)
    assert made.wake_at(2.9) == 3.0
    (refusal,) = made.tick(3.0)
    assert isinstance(refusal, Refuse)
    assert (refusal.needed_bytes, refusal.free_bytes) == (30 * MIB, 20 * MIB)
    assert {(h.name, h.bytes) for h in refusal.holders} == {
        ("a", 30 * MIB),
        ("b", 30 * MIB),
        ("host", 20 * MIB),
    }
    assert refusal.retry_after_ms is not None
    assert "deadline" in refusal.reason


def test_what_can_never_fit_is_refused_at_once_and_told_not_to_retry() -> None:
    made = governor()
    made.declare(Worker("huge", 90 * MIB))
    (refusal,) = made.ask(Ask("t", 100.0, "huge"), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_ms is None
    assert "at most 80.0 MiB can ever be free" in refusal.reason


def test_an_ask_for_what_needs_a_pinned_workers_room_is_refused_at_once() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.pin("a", True, 0.0)
    made.declare(Worker("large", 60 * MIB))
    (refusal,) = made.ask(Ask("t", 100.0, "large"), 1.0)
    assert isinstance(refusal, Refuse)


def test_a_model_steps_down_its_ladder_when_only_a_smaller_variant_fits() -> None:
    made = governor()
    made.ask(Ask("busy", 100.0, "a"), 0.0)
    made.declare(Worker("detect", 5 * MIB))
    degrade, admitted = made.ask(Ask("t", 10.0, "detect", LADDER), 1.0)
    assert isinstance(degrade, Degrade)
    assert (degrade.from_variant, degrade.to_variant) == ("fp32", "int8")
    assert isinstance(admitted, Admit)
    assert admitted.variant == "int8"


def test_idle_workers_are_evicted_before_a_model_steps_down() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.declare(Worker("detect", 5 * MIB))
    evict, queue = made.ask(Ask("t", 10.0, "detect", LADDER), 1.0)
    assert isinstance(evict, Evict)
    assert isinstance(queue, Queue)
    (admitted,) = made.released("a", 1.1)
    assert isinstance(admitted, Admit)
    assert admitted.variant == "fp32"


def test_a_model_steps_up_once_after_a_quiet_while_and_not_before() -> None:
    made = governor()
    made.ask(Ask("busy", 100.0, "a"), 0.0)
    made.declare(Worker("detect", 5 * MIB))
    made.ask(Ask("t", 10.0, "detect", LADDER), 1.0)
    made.loaded("t", 1.5)
    made.finished("t", 2.0)
    made.finished("busy", 2.0)
    made.released("a", 3.0)
    assert made.tick(60.0) == ()
    restore, evict = made.tick(61.0)
    assert isinstance(restore, Restore)
    assert (restore.from_variant, restore.to_variant) == ("int8", "fp32")
    assert isinstance(evict, Evict)
    made.released("detect", 61.1)
    assert load(made, "detect", 62.0, LADDER) == "fp32"


def test_a_ladder_is_not_restored_while_that_would_pass_the_soft_mark() -> None:
    made = governor(budget_mib=140)
    made.declare(Worker("detect", 5 * MIB))
    made.ask(Ask("busy-a", 1e4, "a"), 0.0)
    made.ask(Ask("busy-b", 1e4, "b"), 0.0)
    made.ask(Ask("t", 10.0, "detect", LADDER), 1.0)
    made.loaded("t", 1.0)
    made.finished("t", 1.0)
    assert not only(Restore, made.tick(100.0))


def test_loads_whose_peaks_do_not_fit_together_follow_one_another() -> None:
    made = governor()
    heavy = Model("a", "m", (Variant("fp32", 5 * MIB, load_bytes=40 * MIB),))
    twin = Model("b", "m", (Variant("fp32", 5 * MIB, load_bytes=40 * MIB),))
    made.declare(Worker("a", 5 * MIB))
    made.declare(Worker("b", 5 * MIB))
    made.ask(Ask("t", 10.0, "a", heavy), 0.0)
    (queue,) = made.ask(Ask("u", 10.0, "b", twin), 0.0)
    assert isinstance(queue, Queue)
    assert "the load of a to pass its peak" in queue.reason
    (admitted,) = made.loaded("t", 1.0)
    assert isinstance(admitted, Admit)
    assert admitted.ticket == "u"


def test_a_failed_load_gives_its_bytes_back_and_the_next_ask_loads_again() -> None:
    made = governor()
    made.ask(Ask("t", 10.0, "a", LADDER), 0.0)
    before = made.standing(0.0).reserved_bytes
    made.failed("t", 1.0)
    assert made.standing(0.0).reserved_bytes < before
    made.finished("t", 1.0)
    (decision,) = made.ask(Ask("u", 10.0, "a", LADDER), 2.0)
    assert isinstance(decision, Admit)
    assert decision.load


def test_a_crashed_worker_gives_all_back_and_its_tickets_count_no_more() -> None:
    made = governor()
    made.ask(Ask("t", 10.0, "a"), 0.0)
    made.released("a", 1.0)
    assert made.standing(0.0).reserved_bytes == 20 * MIB
    assert made.finished("t", 1.1) == ()
    load(made, "a", 2.0)
    assert made.standing(2.0).workers[0].in_flight == 0


def test_the_next_start_of_a_worker_reserves_what_was_measured_and_a_margin() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.measured("a", 40 * MIB, 1.0)
    made.released("a", 2.0)
    (admitted,) = made.ask(Ask("t", 10.0, "a"), 3.0)
    assert isinstance(admitted, Admit)
    assert admitted.bytes == 50 * MIB


def test_a_worker_that_needs_less_than_declared_is_reserved_less_next_time() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.measured("a", 8 * MIB, 1.0)
    made.released("a", 2.0)
    (admitted,) = made.ask(Ask("t", 10.0, "a"), 3.0)
    assert isinstance(admitted, Admit)
    assert admitted.bytes == 10 * MIB


def test_a_worker_over_its_reservation_is_warned_and_raised_while_there_is_room() -> None:
    made = governor()
    load(made, "a", 0.0)
    warn, raised = made.measured("a", 40 * MIB, 1.0)
    assert isinstance(warn, Warn)
    assert isinstance(raised, Raise)
    assert (raised.from_bytes, raised.to_bytes) == (30 * MIB, 44 * MIB)
    assert made.standing(1.0).reserved_bytes == 64 * MIB


def test_a_worker_over_its_reservation_is_killed_after_the_grace_when_there_is_no_room() -> None:
    made = governor(budget_mib=80)
    load(made, "a", 0.0)
    made.ask(Ask("busy", 100.0, "b"), 0.0)
    assert [type(d) for d in made.measured("a", 40 * MIB, 1.0)] == [Warn]
    assert made.measured("a", 40 * MIB, 1.5) == ()
    (kill,) = made.measured("a", 40 * MIB, 2.0)
    assert isinstance(kill, Kill)
    assert kill.worker == "a"
    assert made.measured("a", 40 * MIB, 2.1) == ()


def test_no_worker_grows_past_half_of_the_budget_by_itself() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.measured("a", 60 * MIB, 1.0)
    (kill,) = made.measured("a", 60 * MIB, 2.0)
    assert isinstance(kill, Kill)
    assert "its limit is 50.0 MiB" in kill.reason


def test_a_worker_that_came_back_within_its_reservation_is_forgiven() -> None:
    made = governor(budget_mib=80)
    load(made, "a", 0.0)
    made.ask(Ask("busy", 100.0, "b"), 0.0)
    made.measured("a", 40 * MIB, 1.0)
    assert made.measured("a", 20 * MIB, 1.5) == ()
    assert [type(d) for d in made.measured("a", 40 * MIB, 3.0)] == [Warn]


def test_idle_workers_are_unloaded_after_their_time_and_keep_alive_overrides_it() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.ask(Ask("t", 10.0, "b", keep_alive_seconds=5.0), 0.0)
    made.loaded("t", 0.0)
    made.finished("t", 0.0)
    assert made.wake_at(0.0) == 5.0
    (evict,) = made.tick(5.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("b",)
    (evict,) = made.tick(600.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("a",)


def test_the_soft_mark_trims_first_then_evicts_then_steps_a_model_down() -> None:
    made = governor(budget_mib=200)
    made.declare(Worker("detect", 5 * MIB))
    made.ask(Ask("t", 1e4, "detect", LADDER), 0.0)
    made.loaded("t", 0.0)
    load(made, "a", 0.0)
    short = Sample(used_bytes=175 * MIB)
    assert [type(d) for d in made.pressure(short, 1.0)] == [Trim]
    assert made.pressure(short, 1.5) == ()
    (evict,) = made.pressure(short, 2.0)
    assert isinstance(evict, Evict)
    assert made.pressure(short, 3.0) == ()
    made.released("a", 3.5)
    (degrade,) = made.pressure(short, 4.0)
    assert isinstance(degrade, Degrade)
    assert degrade.to_variant == "int8"
    (evict,) = made.finished("t", 5.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("detect",)


def test_the_hard_mark_refuses_new_loads_but_not_calls_to_what_is_loaded() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.ask(Ask("busy", 1e4, "a"), 0.0)
    made.pressure(Sample(used_bytes=96 * MIB), 1.0)
    (refusal,) = made.ask(Ask("t", 10.0, "b"), 1.1)
    assert isinstance(refusal, Refuse)
    assert "hard mark" in refusal.reason
    assert refusal.retry_after_ms
    (admitted,) = made.ask(Ask("u", 10.0, "a"), 1.1)
    assert isinstance(admitted, Admit)
    (body,) = made.ask(Ask("v", 10.0, bytes=1000), 1.1)
    assert isinstance(body, Admit)


def test_the_hard_mark_kills_the_worker_most_above_its_reservation() -> None:
    made = governor(budget_mib=80)
    for name in ("a", "b"):
        made.ask(Ask(name, 1e4, name), 0.0)
        made.loaded(name, 0.0)
    made.measured("a", 33 * MIB, 1.0)
    made.measured("b", 40 * MIB, 1.0)
    kills = only(Kill, made.pressure(Sample(used_bytes=79 * MIB), 1.1))
    assert [k.worker for k in kills if isinstance(k, Kill)] == ["b"]


def test_the_hard_mark_kills_nobody_who_keeps_within_its_reservation() -> None:
    made = governor()
    made.ask(Ask("t", 1e4, "a"), 0.0)
    made.loaded("t", 0.0)
    made.measured("a", 30 * MIB, 1.0)
    for second in range(2, 60):
        assert not only(Kill, made.pressure(Sample(used_bytes=99 * MIB), float(second)))


def test_a_waiting_caller_gets_in_when_the_hard_mark_is_left() -> None:
    made = governor()
    made.ask(Ask("a", 1e4, "a"), 0.0)
    made.ask(Ask("b", 1e4, "b"), 0.0)
    made.ask(Ask("t", 100.0, "c"), 0.0)
    made.pressure(Sample(used_bytes=96 * MIB), 1.0)
    assert not only(Admit, made.released("a", 2.0))
    decisions = made.pressure(Sample(used_bytes=60 * MIB), 3.0)
    assert [d.ticket for d in decisions if isinstance(d, Admit)] == ["t"]


def test_a_paused_model_is_refused_with_the_time_of_the_next_step_up() -> None:
    made = governor(budget_mib=200)
    made.declare(Worker("detect", 5 * MIB))
    made.ask(Ask("t", 1e4, "detect", LADDER), 0.0)
    made.loaded("t", 0.0)
    for second in (1.0, 2.0):
        made.pressure(Sample(used_bytes=175 * MIB), second)
    made.finished("t", 3.0)
    made.released("detect", 3.0)
    made.ask(Ask("u", 1e4, "detect", LADDER), 3.5)
    made.loaded("u", 3.5)
    made.pressure(Sample(used_bytes=175 * MIB), 4.0)
    made.finished("u", 5.0)
    made.released("detect", 5.0)
    made.pressure(Sample(used_bytes=10 * MIB), 6.0)
    (refusal,) = made.ask(Ask("v", 1e4, "detect", LADDER), 7.0)
    assert isinstance(refusal, Refuse)
    assert "paused" in refusal.reason
    assert refusal.retry_after_ms == 57_000


def test_a_lowered_budget_evicts_idle_workers_and_admits_nothing_until_it_fits() -> None:
    made = governor()
    load(made, "a", 0.0)
    made.ask(Ask("busy", 1e4, "b"), 0.0)
    (evict,) = made.set_budget(60 * MIB, 1.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("a",)
    assert made.standing(1.0).free_bytes == 20 * MIB - 20 * MIB
    made.released("a", 2.0)
    standing = made.standing(2.0)
    assert (standing.budget_bytes, standing.free_bytes) == (60 * MIB, 10 * MIB)


def test_a_growing_host_gets_what_is_free_and_idle_workers_go_for_the_rest() -> None:
    made = governor()
    load(made, "a", 0.0)
    load(made, "b", 1.0)
    warn, evict = made.hold("host", Kind.HOST, 45 * MIB, 2.0)
    assert isinstance(warn, Warn)
    assert isinstance(evict, Evict)
    made.released("a", 3.0)
    assert made.hold("host", Kind.HOST, 45 * MIB, 3.0) == ()
    assert made.standing(3.0).reserved_bytes == 75 * MIB


def test_bodies_are_reserved_while_in_flight() -> None:
    made = governor()
    (admitted,) = made.ask(Ask("t", 10.0, kind=Kind.BODY, bytes=64 * MIB), 0.0)
    assert isinstance(admitted, Admit)
    assert made.standing(0.0).free_bytes == 16 * MIB
    made.finished("t", 1.0)
    assert made.standing(1.0).free_bytes == 80 * MIB


def test_a_small_body_passes_those_who_wait_for_much() -> None:
    made = governor()
    for name in ("a", "b"):
        made.ask(Ask(name, 1e4, name), 0.0)
    made.ask(Ask("t", 100.0, "c"), 0.0)
    (admitted,) = made.ask(Ask("u", 100.0, bytes=1000), 50.0)
    assert isinstance(admitted, Admit)


def test_a_leaking_worker_is_recycled_between_calls_and_a_pinned_one_only_warned() -> None:
    for pinned in (False, True):
        made = governor(budget_mib=1000)
        load(made, "a", 0.0)
        made.pin("a", pinned, 0.0)
        made.ask(Ask("t", 1e5, "a"), 1.0)
        events: list[Decision] = []
        for second in range(60, 400, 5):
            events += made.measured("a", (10 + second // 5) * MIB, float(second))
        assert any("leaks memory" in e.reason for e in only(Warn, tuple(events)))
        assert not only(Evict, tuple(events))
        assert bool(only(Evict, made.finished("t", 400.0))) is not pinned
        (again,) = made.ask(Ask("u", 1e5, "a"), 401.0)
        assert isinstance(again, Admit if pinned else Queue)


def test_what_is_reported_of_a_load_whose_worker_is_gone_is_ignored() -> None:
    made = governor()
    made.ask(Ask("t", 10.0, "a", LADDER), 0.0)
    made.released("a", 1.0)
    assert made.loaded("t", 1.1) == made.failed("t", 1.1) == made.measured("a", MIB, 1.1) == ()
    assert made.standing(1.1).reserved_bytes == 20 * MIB


def test_a_worker_is_killed_once_however_long_it_takes_to_go() -> None:
    made = governor(budget_mib=80)
    made.ask(Ask("a", 1e4, "a"), 0.0)
    made.ask(Ask("b", 1e4, "b"), 0.0)
    made.measured("a", 40 * MIB, 1.0)
    assert only(Kill, made.pressure(Sample(used_bytes=79 * MIB), 1.1))
    for second in (1.2, 1.3, 9.0):
        assert not only(Kill, made.pressure(Sample(used_bytes=79 * MIB), second))


def test_the_hard_mark_lets_calls_to_what_is_loaded_pass_those_who_wait() -> None:
    made = governor()
    for name in ("a", "b"):
        made.ask(Ask(name, 1e4, name), 0.0)
    made.ask(Ask("t", 1e4, "c"), 0.0)
    made.pressure(Sample(used_bytes=96 * MIB), 0.1)
    decisions = made.ask(Ask("u", 1e4, "a"), 0.1)
    assert [d.ticket for d in decisions if isinstance(d, Admit)] == ["u"]


def test_steps_up_come_one_by_one_with_a_quiet_while_between_them() -> None:
    made = governor(budget_mib=200)
    made.declare(Worker("detect", 5 * MIB))
    for number, at in enumerate((0.0, 10.0)):
        made.ask(Ask(f"t{number}", 1e4, "detect", LADDER), at)
        made.loaded(f"t{number}", at)
        made.pressure(Sample(used_bytes=175 * MIB), at + 1)
        made.pressure(Sample(used_bytes=175 * MIB), at + 2)
        made.finished(f"t{number}", at + 3)
        made.released("detect", at + 4)
    made.pressure(Sample(used_bytes=10 * MIB), 15.0)
    assert made.standing(15.0).steps == {"detect/nano": 2}
    assert made.wake_at(15.0) == 72.0
    assert [d.to_variant for d in made.tick(72.0) if isinstance(d, Restore)] == ["int8"]
    assert not only(Restore, made.tick(131.0))
    assert [d.to_variant for d in made.tick(132.0) if isinstance(d, Restore)] == ["fp32"]
    assert made.wake_at(132.0) is None


def test_a_busy_worker_in_the_way_of_a_lowered_budget_goes_once_it_is_idle() -> None:
    made = governor()
    made.ask(Ask("t", 1e4, "a"), 0.0)
    made.loaded("t", 0.0)
    assert made.set_budget(40 * MIB, 1.0) == ()
    made.finished("t", 2.0)
    (evict,) = made.tick(2.0)
    assert isinstance(evict, Evict)
    made.released("a", 3.0)
    assert made.standing(3.0).budget_bytes == 40 * MIB


def test_no_more_workers_are_evicted_than_are_needed() -> None:
    made = governor(budget_mib=130)
    made.declare(Worker("tiny", 5 * MIB))
    made.declare(Worker("large", 70 * MIB))
    load(made, "tiny", 0.0)
    load(made, "large", 1.0)
    evict, _ = made.ask(Ask("t", 1e4, "a", Model("a", "m", (Variant("x", 40 * MIB),))), 5.0)
    assert isinstance(evict, Evict)
    assert evict.workers == ("large",)


def test_a_full_queue_refuses_at_once() -> None:
    made = Governor(100 * MIB, Settings(queue_length=1))
    for name in ("a", "b"):
        made.declare(Worker(name, 60 * MIB))
    made.ask(Ask("t", 100.0, "a"), 0.0)
    made.ask(Ask("u", 100.0, "b"), 0.0)
    (refusal,) = made.ask(Ask("v", 100.0, "b"), 0.0)
    assert isinstance(refusal, Refuse)
    assert "1 others wait" in refusal.reason


def test_a_caller_who_goes_away_frees_its_place_in_the_queue() -> None:
    made = governor()
    for name in ("a", "b"):
        made.ask(Ask(name, 1e4, name), 0.0)
    made.ask(Ask("t", 100.0, "c"), 0.0)
    made.finished("t", 1.0)
    assert made.standing(1.0).queued == 0
    assert not only(Admit, made.released("a", 2.0))


def test_decisions_are_explained_by_any_of_their_names() -> None:
    made = governor()
    load(made, "a", 0.0)
    load(made, "b", 1.0)
    made.ask(Ask("t", 9.0, "c"), 5.0)
    assert [type(e.decision) for e in made.journal.explain("a")] == [Admit, Evict]
    assert [type(e.decision) for e in made.journal.explain("t")] == [Evict, Queue]


def test_mistakes_of_the_host_are_named() -> None:
    made = governor()
    with pytest.raises(NotFound, match="nobody"):
        made.ask(Ask("t", 10.0, "nobody"), 0.0)
    made.ask(Ask("t", 10.0, "a"), 0.0)
    with pytest.raises(AlreadyExists, match="'t' is in use"):
        made.ask(Ask("t", 10.0, "a"), 0.0)
    with pytest.raises(InvalidArgument, match="budget"):
        Governor(0)
    with pytest.raises(InvalidArgument, match="weight"):
        Worker("w", 1, weight=0.0)
    with pytest.raises(InvalidArgument, match="no variant"):
        Model("u", "m", ())
    with pytest.raises(InvalidArgument, match="below"):
        Model("u", "m", (Variant("x", 1), Variant(PAUSED, 0), Variant("y", 1)))
