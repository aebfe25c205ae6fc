"""Whatever happens in whatever order: the ledger holds, nobody busy or pinned is evicted, nobody starves.

A small host is played by Hypothesis: it asks, loads, fails, finishes, dies, measures, pins, lets time pass,
and carries out what the governor decides, at once or late.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smol.policy.decisions import Admit, Decision, Degrade, Evict, Kill, Queue, Raise, Refuse, Restore
from smol.policy.governor import Governor
from smol.policy.ledger import Kind
from smol.policy.pressure import Sample
from smol.policy.workers import PAUSED, Ask, Model, Variant, Worker

MIB = 1 << 20
NAMES = ("a", "b", "c", "d", "e")
MODELS = {
    name: Model(
        name,
        "m",
        (
            Variant("fp32", size * MIB, load_bytes=size * 2 * MIB),
            Variant("int8", size * MIB // 2),
            Variant(PAUSED, 0),
        ),
    )
    for name, size in zip(NAMES, (10, 20, 30, 5, 90), strict=True)
}


@dataclass
class Process:
    """A worker as the host sees it."""

    tickets: set[str] = field(default_factory=set)
    doomed: bool = False


class GovernorModel(RuleBasedStateMachine):
    @initialize(budget_mib=st.integers(40, 200))
    def start(self, budget_mib: int) -> None:
        self.now = 0.0
        self.count = 0
        self.governor = Governor(budget_mib * MIB)
        for name in NAMES:
            self.governor.declare(Worker(name, 4 * MIB, reload_seconds=0.5, idle_seconds=30.0))
        self.processes: dict[str, Process] = {}
        self.waiting: dict[str, float] = {}
        self.loading: dict[str, str] = {}
        self.running: dict[str, str | None] = {}
        self.bodies: dict[str, int] = {}
        self.pins: set[str] = set()
        self.steps: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.sizes: dict[str, int] = {}
        self.take(self.governor.hold("host", Kind.HOST, 10 * MIB, 0.0))

    def take(self, decisions: tuple[Decision, ...]) -> None:
        """Check each decision against what the host knows and carry it out."""
        for decision in decisions:
            assert getattr(decision, "reason", "x")
            match decision:
                case Admit(ticket=ticket, worker=worker, load=load, variant=variant):
                    self.waiting.pop(ticket, None)
                    self.running[ticket] = worker
                    if worker is None:
                        continue
                    assert variant != PAUSED
                    process = self.processes.setdefault(worker, Process())
                    assert not process.doomed, "admitted to a worker that was told to end"
                    process.tickets.add(ticket)
                    if load:
                        self.loading[ticket] = worker
                case Queue(ticket=ticket, until=until):
                    self.waiting[ticket] = until
                case Refuse(ticket=ticket, needed_bytes=needed, retry_after_ms=retry):
                    self.waiting.pop(ticket, None)
                    self.bodies.pop(ticket, None)
                    assert needed >= 0
                    assert retry is None or 100 <= retry <= 60_000
                case Evict(workers=workers):
                    assert workers
                    for name in workers:
                        assert not self.processes[name].tickets, f"{name} is busy"
                        assert name not in self.pins, f"{name} is pinned"
                        assert not self.processes[name].doomed, f"{name} was told to end already"
                        self.processes[name].doomed = True
                case Kill(worker=worker, reserved_bytes=reserved, measured_bytes=measured):
                    assert measured > reserved, "killed within its reservation"
                    self.processes[worker].doomed = True
                case Degrade(unit=unit):
                    self.steps[unit] += 1
                case Restore(unit=unit):
                    self.steps[unit] -= 1
                case Raise(from_bytes=before, to_bytes=after):
                    assert after >= before
                case _:
                    pass

    def ticket(self) -> str:
        self.count += 1
        return f"t{self.count}"

    # What callers do.

    @rule(name=st.sampled_from(NAMES), patience=st.floats(0.1, 30.0), with_model=st.booleans())
    def call(self, name: str, patience: float, with_model: bool) -> None:
        ticket = self.ticket()
        model = MODELS[name] if with_model else None
        ask = Ask(ticket, self.now + patience, name, model)
        decisions = self.governor.ask(ask, self.now)
        self.take(decisions)
        assert ticket in self.running or ticket in self.waiting or any(isinstance(d, Refuse) for d in decisions)

    @rule(size_mib=st.integers(0, 60), patience=st.floats(0.1, 30.0))
    def send_a_body(self, size_mib: int, patience: float) -> None:
        ticket = self.ticket()
        self.bodies[ticket] = size_mib * MIB
        self.take(self.governor.ask(Ask(ticket, self.now + patience, bytes=size_mib * MIB), self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.running)))
        if ticket in self.loading:
            return
        worker = self.running.pop(ticket)
        self.bodies.pop(ticket, None)
        if worker is not None and worker in self.processes:
            self.processes[worker].tickets.discard(ticket)
        self.take(self.governor.finished(ticket, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[ticket]
        self.bodies.pop(ticket, None)
        self.take(self.governor.finished(ticket, self.now))

    # What workers do.

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), ok=st.booleans(), size_mib=st.sampled_from((0, 0, 10, 80)))
    def end_a_load(self, data: st.DataObject, ok: bool, size_mib: int) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.loading)))
        del self.loading[ticket]
        if ok:
            self.take(self.governor.loaded(ticket, self.now, size_mib * MIB))
        else:
            self.take(self.governor.failed(ticket, self.now))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Because it was told to, or by itself."""
        name = data.draw(st.sampled_from(sorted(self.processes)))
        process = self.processes.pop(name)
        for ticket in process.tickets:
            del self.running[ticket]
            self.loading.pop(ticket, None)
        self.take(self.governor.released(name, self.now))
        for ticket in process.tickets:
            self.take(self.governor.finished(ticket, self.now))

    # What is measured and ordered.

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), size_mib=st.integers(0, 120))
    def measure(self, data: st.DataObject, size_mib: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.processes)))
        self.take(self.governor.measured(name, size_mib * MIB, self.now))

    @rule(share=st.sampled_from((0.1, 0.9, 0.97)))
    def press(self, share: float) -> None:
        budget = self.governor.standing(self.now).budget_bytes
        self.take(self.governor.pressure(Sample(int(budget * share)), self.now))

    @rule(name=st.sampled_from(NAMES), pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        (self.pins.add if pinned else self.pins.discard)(name)
        self.take(self.governor.pin(name, pinned, self.now))

    @rule(budget_mib=st.integers(20, 250))
    def set_budget(self, budget_mib: int) -> None:
        self.take(self.governor.set_budget(budget_mib * MIB, self.now))

    @rule(size_mib=st.integers(0, 40))
    def host_grows(self, size_mib: int) -> None:
        self.take(self.governor.hold("host", Kind.HOST, size_mib * MIB, self.now))

    @rule(seconds=st.floats(0.01, 100.0))
    def time_passes(self, seconds: float) -> None:
        """Wakes as the governor wishes, as the host's timer would."""
        until = self.now + seconds
        while (wake := self.governor.wake_at(self.now)) is not None and wake <= until:
            self.now = max(self.now, wake)
            decisions = self.governor.tick(self.now)
            self.take(decisions)
            again = self.governor.wake_at(self.now)
            assert decisions or again is None or again > self.now, "it wakes for nothing, again and again"
        self.now = until

    # What is true at all times.

    @invariant()
    def the_sum_of_reservations_never_exceeds_the_budget(self) -> None:
        standing = self.governor.standing(self.now)
        total = sum(entry.bytes for entry in standing.reservations)
        assert total == standing.reserved_bytes <= standing.budget_bytes
        assert standing.budget_bytes == max(standing.target_bytes, total)

    @invariant()
    def no_reservation_is_lost_and_none_outlives_its_holder(self) -> None:
        entries = {entry.key: entry for entry in self.governor.standing(self.now).reservations}
        assert {e.worker for e in entries.values() if e.worker} == set(self.processes)
        for name in self.processes:
            assert f"worker:{name}" in entries
        held = {key.split(":")[1] for key, e in entries.items() if e.kind is Kind.BODY}
        assert held == {ticket for ticket, worker in self.running.items() if worker is None}

    @invariant()
    def calls_in_flight_are_counted_right(self) -> None:
        for worker in self.governor.standing(self.now).workers:
            assert worker.in_flight == len(self.processes[worker.worker].tickets)

    @invariant()
    def no_caller_waits_past_its_deadline(self) -> None:
        assert self.governor.standing(self.now).queued == len(self.waiting)
        wake = self.governor.wake_at(self.now)
        for deadline in self.waiting.values():
            assert deadline >= self.now
            assert wake is not None
            assert wake <= deadline

    @invariant()
    def ladders_stay_within_their_steps(self) -> None:
        assert all(0 <= step <= 2 for step in self.steps.values())
        known = self.governor.standing(self.now).steps
        assert {f"{unit}/m": step for unit, step in self.steps.items() if step} == known

    def teardown(self) -> None:
        """Once all calls end and time passes, nobody waits any more and everything can be given back."""
        if not hasattr(self, "governor"):
            return
        self.now += 31.0
        self.take(self.governor.tick(self.now))
        assert not self.waiting
        for ticket in list(self.loading):
            del self.loading[ticket]
            self.take(self.governor.loaded(ticket, self.now))
        for ticket, worker in list(self.running.items()):
            del self.running[ticket]
            if worker in self.processes and worker is not None:
                self.processes[worker].tickets.discard(ticket)
            self.take(self.governor.finished(ticket, self.now))
        for name in list(self.processes):
            del self.processes[name]
            self.take(self.governor.released(name, self.now))
        assert [e.kind for e in self.governor.standing(self.now).reservations] == [Kind.HOST]


GovernorModel.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestGovernorModel = GovernorModel.TestCase
