"""Grouping, patience and anticipation: swapping stays rare and nobody pays for it with a deadline."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from smol.policy.decisions import Admit, Decision, Evict, Queue, Refuse
from smol.policy.governor import Governor
from smol.policy.workers import Ask, Worker

MIB = 1 << 20
RELOAD_SECONDS = 0.5
CALL_SECONDS = 0.02


@dataclass
class Play:
    """A host in virtual time: each worker serves one call after the other; one worker fits at a time."""

    names: str
    swaps: int = 0
    served: list[str] = field(default_factory=list)
    refused: int = 0
    now: float = 0.0

    def __post_init__(self) -> None:
        self.governor = Governor(100 * MIB)
        for name in self.names:
            self.governor.declare(Worker(name, 60 * MIB, reload_seconds=RELOAD_SECONDS))
        self.agenda: list[tuple[float, int, str, str, str]] = []
        self.count = 0
        self.free_at: dict[str, float] = {}

    def at(self, when: float, what: str, worker: str, ticket: str = "") -> None:
        self.count += 1
        heapq.heappush(self.agenda, (when, self.count, what, worker, ticket))

    def take(self, decisions: tuple[Decision, ...]) -> None:
        for decision in decisions:
            match decision:
                case Admit(ticket=ticket, worker=str(worker), load=True):
                    self.swaps += 1
                    self.free_at[worker] = self.now + RELOAD_SECONDS
                    self.at(self.now + RELOAD_SECONDS, "loaded", worker, ticket)
                    self.serve(worker, ticket)
                case Admit(ticket=ticket, worker=str(worker)):
                    self.serve(worker, ticket)
                case Evict(workers=workers):
                    for worker in workers:
                        self.at(self.now + 0.005, "released", worker)
                case Refuse():
                    self.refused += 1
                case _:
                    pass

    def serve(self, worker: str, ticket: str) -> None:
        start = max(self.now, self.free_at.get(worker, 0.0))
        self.free_at[worker] = start + CALL_SECONDS
        self.at(start + CALL_SECONDS, "finished", worker, ticket)

    def run(self, patience: float, clients: dict[str, deque[str]] | None = None) -> None:
        """Until nothing is left to do. clients: what each asks next, as soon as its last call is done."""
        queues = clients or {}
        for client in queues:
            self.ask_next(client, queues, patience)
        while True:
            wake = self.governor.wake_at(self.now) if self.governor.standing(self.now).queued else None
            if not self.agenda and wake is None:
                return
            if wake is not None and (not self.agenda or wake < self.agenda[0][0]):
                self.now = max(self.now, wake)
                self.take(self.governor.tick(self.now))
                continue
            self.now, _, what, worker, ticket = heapq.heappop(self.agenda)
            if what == "ask":
                self.take(self.governor.ask(Ask(ticket, self.now + patience, worker), self.now))
            elif what == "loaded":
                self.take(self.governor.loaded(ticket, self.now))
            elif what == "released":
                self.take(self.governor.released(worker, self.now))
            else:
                self.served.append(worker)
                self.take(self.governor.finished(ticket, self.now))
                client = ticket.partition("/")[0]
                if client in queues:
                    self.ask_next(client, queues, patience)

    def ask_next(self, client: str, queues: dict[str, deque[str]], patience: float) -> None:
        if queues[client]:
            self.at(self.now + 0.001, "ask", queues[client].popleft(), f"{client}/{self.count}")


def test_calls_that_come_in_turn_are_grouped_and_swaps_fall_by_more_than_half() -> None:
    play = Play("abc")
    for number in range(99):
        play.at(number * 0.03, "ask", "abc"[number % 3], f"t{number}")
    play.run(patience=30.0)
    assert play.refused == 0
    assert len(play.served) == 99
    assert play.swaps < 99 / 2  # first come, first served swaps at each of them
    assert play.swaps <= 12


def test_clients_that_wait_for_their_answers_are_grouped_too() -> None:
    play = Play("ab")
    play.run(patience=30.0, clients={f"{name}{i}": deque(name * 50) for name in "ab" for i in range(2)})
    assert (play.refused, len(play.served)) == (0, 200)
    assert play.swaps <= 20


def test_short_deadlines_are_kept_by_swapping_more_often() -> None:
    for patience in (30.0, 6.0, 3.0):
        play = Play("ab")
        rng = random.Random(3)
        for number in range(100):
            play.at(number * 0.1, "ask", rng.choice("ab"), f"t{number}")
        play.run(patience=patience)
        assert play.refused == 0, f"with {patience} s"


def test_a_stream_of_calls_to_one_worker_does_not_starve_the_other() -> None:
    play = Play("ab")
    for number in range(1000):
        play.at(number * 0.02, "ask", "a", f"t{number}")
    play.at(1.0, "ask", "b", "other")
    play.run(patience=15.0)
    assert play.refused == 0
    assert play.served.index("b") * CALL_SECONDS < 1.0 + 2 * RELOAD_SECONDS + 1.0


def loaded(*names: str) -> Governor:
    """Workers of 60 MiB in 100 MiB; the first of them is loaded and idle at 0 s."""
    governor = Governor(100 * MIB)
    for name in names:
        governor.declare(Worker(name, 60 * MIB))
    governor.ask(Ask("first", 10.0, names[0]), 0.0)
    governor.loaded("first", 0.0)
    governor.finished("first", 0.0)
    return governor


def test_a_worker_that_was_told_to_end_takes_no_more_calls() -> None:
    governor = loaded("a", "b")
    governor.ask(Ask("t", 100.0, "b"), 10.0)
    (queue,) = governor.ask(Ask("u", 100.0, "a"), 10.0)
    assert isinstance(queue, Queue)
    assert "a has to end before it can start again" in queue.reason


def test_others_go_first_until_the_patience_of_a_waiting_caller_is_over() -> None:
    governor = loaded("a", "b")
    governor.ask(Ask("busy", 1e4, "a"), 10.0)
    governor.ask(Ask("t", 1e4, "b"), 10.0)
    patience_at = governor.wake_at(10.0)
    assert patience_at is not None
    assert 10.0 < patience_at < 12.1
    (joined,) = governor.ask(Ask("u", 1e4, "a"), patience_at - 0.01)
    assert isinstance(joined, Admit)
    (queue,) = governor.ask(Ask("v", 1e4, "a"), patience_at)
    assert isinstance(queue, Queue)
    assert governor.finished("busy", 20.0) == ()
    (evict,) = governor.finished("u", 21.0)
    assert isinstance(evict, Evict)
    (admitted,) = governor.released("a", 21.5)
    assert isinstance(admitted, Admit)
    assert admitted.ticket == "t"


def test_a_caller_with_a_near_deadline_has_no_patience() -> None:
    governor = loaded("a", "b")
    governor.ask(Ask("busy", 1e4, "a"), 10.0)
    governor.ask(Ask("t", 12.0, "b"), 10.0)
    (queue,) = governor.ask(Ask("u", 1e4, "a"), 10.5)
    assert isinstance(queue, Queue)


def test_a_worker_that_is_called_again_at_once_each_time_is_given_that_moment() -> None:
    governor = loaded("a", "b")
    for number in range(5):
        governor.ask(Ask(f"a{number}", 1e4, "a"), number * 0.1 + 0.01)
        governor.finished(f"a{number}", (number + 1) * 0.1)
    (queue,) = governor.ask(Ask("t", 1e4, "b"), 0.5)
    assert isinstance(queue, Queue)
    assert "about to be called again" in queue.reason
    wake = governor.wake_at(0.5)
    assert wake == pytest.approx(0.52)
    (evict,) = governor.tick(wake or 0.0)
    assert isinstance(evict, Evict)


def test_room_made_for_one_caller_is_not_taken_by_the_next() -> None:
    governor = loaded("a")
    for name, size_mib in (("large", 80), ("middle", 30), ("small", 20)):
        governor.declare(Worker(name, size_mib * MIB))
    governor.ask(Ask("t", 1e4, "large"), 10.0)
    (queue,) = governor.ask(Ask("u", 1e4, "middle"), 10.0)
    assert isinstance(queue, Queue)
    (beside,) = governor.ask(Ask("v", 1e4, "small"), 10.0)
    assert isinstance(beside, Admit)
    admitted = [d.ticket for d in governor.released("a", 11.0) if isinstance(d, Admit)]
    assert admitted == ["t"]


def test_a_crash_takes_its_tickets_with_it_so_that_a_new_one_can_be_evicted() -> None:
    governor = loaded("a", "b")
    governor.ask(Ask("lost", 1e4, "a"), 1.0)
    governor.released("a", 2.0)
    governor.ask(Ask("again", 1e4, "a"), 3.0)
    governor.loaded("again", 3.0)
    governor.finished("lost", 3.5)
    assert governor.standing(4.0).workers[0].in_flight == 1
