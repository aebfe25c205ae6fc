"""Room that is asked for inside a call, or held for one: nobody holds what others wait for."""

from __future__ import annotations

from smol.policy.decisions import Admit, Decision, Evict, Queue, Refuse
from smol.policy.governor import Governor
from smol.policy.ledger import Kind
from smol.policy.workers import Ask, Model, Variant, Worker

MIB = 1 << 20


def model(unit: str, size_mib: int, name: str = "m") -> Model:
    return Model(unit, name, (Variant("only", size_mib * MIB),))


def governor(budget_mib: int, **base_mib: int) -> Governor:
    made = Governor(budget_mib * MIB)
    for name, size in base_mib.items():
        made.declare(Worker(name, size * MIB, reload_seconds=0.5))
    return made


def run(made: Governor, name: str, now: float = 0.0) -> None:
    """Start a worker and have a call in it."""
    (admit,) = made.ask(Ask(f"start {name}", now + 60, name), now)
    assert isinstance(admit, Admit)
    made.loaded(admit.ticket, now)
    assert made.enter(f"call {name}", name, now)
    made.finished(admit.ticket, now)


def inside(made: Governor, name: str, size_mib: int, *, repeatable: bool, held: str = "") -> tuple[Decision, ...]:
    ask = Ask(f"load in {name}", 60.0, name, model(name, size_mib), inside=True, repeatable=repeatable)
    return made.exchange(held, ask, 1.0) if held else made.ask(ask, 1.0)


def test_a_repeatable_call_is_taken_back_when_room_is_held_by_the_busy() -> None:
    made = governor(100, a=20, b=60)
    run(made, "a")
    run(made, "b")
    (refuse,) = inside(made, "a", 30, repeatable=True)
    assert isinstance(refuse, Refuse)
    assert refuse.repeat


def test_one_that_is_not_repeatable_waits_inside() -> None:
    made = governor(100, a=20, b=60)
    run(made, "a")
    run(made, "b")
    (queue,) = inside(made, "a", 30, repeatable=False)
    assert isinstance(queue, Queue)
    decisions = made.finished("call b", 2.0)
    assert [type(d) for d in decisions] == [Evict]
    (admit,) = made.released("b", 2.1)
    assert isinstance(admit, Admit)


def test_two_calls_do_not_wait_inside_for_each_other() -> None:
    made = governor(100, a=40, b=50)
    run(made, "a")
    run(made, "b")
    assert isinstance(inside(made, "a", 30, repeatable=False)[-1], Queue)
    refuse = inside(made, "b", 30, repeatable=False)[-1]
    assert isinstance(refuse, Refuse)
    assert not refuse.repeat
    assert "wait for room themselves" in refuse.reason


def test_a_worker_starts_afresh_when_its_own_models_are_in_the_way() -> None:
    made = governor(100, a=20)
    run(made, "a")
    assert isinstance(made.ask(Ask("x", 60.0, "a", model("a", 50, "x"), inside=True), 0.5)[0], Admit)
    made.loaded("x", 0.6)
    made.finished("x", 0.6)
    (refuse,) = inside(made, "a", 60, repeatable=True)
    assert isinstance(refuse, Refuse)
    assert refuse.repeat
    assert not made.takes_calls("a")
    (evict,) = made.finished("call a", 2.0)
    assert isinstance(evict, Evict)
    made.released("a", 2.1)
    run(made, "a", 2.2)
    assert isinstance(inside(made, "a", 60, repeatable=True)[0], Admit)


def test_room_that_was_found_for_a_model_is_given_to_nobody_else() -> None:
    made = governor(100, a=20, b=50)
    wish = Ask("wish", 60.0, kind=Kind.MODEL, bytes=60 * MIB, beside="a")
    assert isinstance(made.ask(wish, 0.0)[0], Admit)
    (queue,) = made.ask(Ask("start b", 60.0, "b"), 0.0)
    assert isinstance(queue, Queue)
    run(made, "a", 0.1)
    (admit,) = inside(made, "a", 60, repeatable=True, held="wish")
    assert isinstance(admit, Admit)
    assert made.standing(1.0).queued == 1


def test_room_is_not_held_for_a_worker_that_could_then_not_start() -> None:
    made = governor(100, a=50, b=40)
    run(made, "b")
    wish = Ask("wish", 60.0, kind=Kind.MODEL, bytes=30 * MIB, beside="a")
    decisions = made.ask(wish, 0.0)
    assert [type(d) for d in decisions] == [Queue], "30 MiB are free, but 80 are needed"
    never = Ask("never", 60.0, kind=Kind.MODEL, bytes=60 * MIB, beside="a")
    (refuse,) = made.ask(never, 0.0)
    assert isinstance(refuse, Refuse)
    assert refuse.needed_bytes == 110 * MIB


def test_a_worker_is_not_unloaded_while_room_is_held_for_what_it_does_next() -> None:
    made = governor(100, a=20, b=50)
    run(made, "a")
    assert isinstance(made.ask(Ask("wish", 60.0, kind=Kind.BODY, bytes=50 * MIB, beside="a"), 0.1)[0], Admit)
    made.finished("call a", 0.2)
    (queue,) = made.ask(Ask("start b", 60.0, "b"), 5.0)
    assert isinstance(queue, Queue)
    assert made.takes_calls("a")
    decisions = made.finished("wish", 6.0)
    assert [type(d) for d in decisions] == [Evict] or isinstance(decisions[-1], Admit)


def test_a_worker_that_has_just_started_is_not_closed_for_the_impatient() -> None:
    made = governor(100, a=60, b=60)
    run(made, "a", 10.0)
    made.ask(Ask("start b", 11.0, "b"), 10.0)  # Its deadline leaves it no patience.
    made.tick(10.1)
    assert made.takes_calls("a")
    made.tick(10.6)
    assert not made.takes_calls("a")


def test_who_gives_up_waiting_is_told_who_has_the_room() -> None:
    made = governor(100, a=60, b=60)
    run(made, "a")
    made.ask(Ask("start b", 5.0, "b"), 0.1)
    made.extend("start b", 9.0)
    refuse = made.refusal("start b", 5.0)
    assert refuse is not None
    assert refuse.holders[0].name == "a"
    assert made.standing(5.0).queued == 1, "another waits until 9"
    assert made.refusal("start c", 5.0) is None


def test_a_model_that_was_let_go_leaves_its_room() -> None:
    made = governor(100, a=20)
    run(made, "a")
    inside(made, "a", 50, repeatable=False)
    made.loaded("load in a", 1.0)
    before = made.reserved_bytes
    made.unloaded("a", "a/m", 2.0)
    assert made.reserved_bytes == before - 50 * MIB
    assert made.unloaded("a", "a/m", 2.0) == ()
