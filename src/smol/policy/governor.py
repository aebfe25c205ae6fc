"""The governor: one door to all decisions about memory.

It is told what happens (`ask`, `loaded`, `finished`, `released`, `measured`, `pressure`, `tick`) with `now`
and sizes, and answers with decisions in the order in which they are to be carried out. It never measures,
waits or ends anything itself; the host does, and reports back. `now` is seconds on any clock that never goes
back.

For every `ask` there must be one `finished`, admitted or not; for every `Admit` with `load`, one `loaded` or
`failed` before that; for every `Evict` or `Kill`, and every worker that died by itself, one `released` once
its process is gone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container

import msgspec

from smol.policy.admission import Admission
from smol.policy.books import Books, Settings
from smol.policy.decisions import Decision, Degrade, Event, Holder, Kill, Refuse, Warn, mib
from smol.policy.eviction import choose_idle, evictable
from smol.policy.leak import LeakWatch
from smol.policy.ledger import Kind, Reservation
from smol.policy.pressure import Sample
from smol.policy.upkeep import Pressure, evict, learn, restore_one, review, unload_idle
from smol.policy.waiting import refusal
from smol.policy.workers import PAUSED, Ask, Model, Worker

__all__ = ["Governor", "Journal", "Standing", "WorkerStanding"]

HISTORY = 512
LIMIT_SLACK_BYTES = 4 << 20

Decisions = tuple[Decision, ...]


class WorkerStanding(msgspec.Struct, frozen=True):
    """One worker as it stands: reserved beside measured."""

    worker: str
    state: str
    reserved_bytes: int
    measured_bytes: int
    in_flight: int
    idle_seconds: float
    variants: tuple[str, ...]


class Standing(msgspec.Struct, frozen=True):
    """The whole ledger as it stands."""

    budget_bytes: int
    target_bytes: int
    reserved_bytes: int
    free_bytes: int
    level: str
    level_reason: str
    queued: int
    workers: tuple[WorkerStanding, ...]
    reservations: tuple[Reservation, ...]
    holders: tuple[Holder, ...]
    steps: dict[str, int]


class Journal:
    """The last decisions, oldest first. Warm calls, which need no decision, are not among them.

    counts: how many there were of each kind, by its tag.
    """

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=HISTORY)
        self.counts: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        """Remember one."""
        self.events.append(event)
        self.counts[str(event.decision.__struct_config__.tag)] += 1

    def explain(self, subject: str) -> tuple[Event, ...]:
        """The decisions about a ticket, worker, unit or model."""
        return tuple(event for event in self.events if event.concerns(subject))


class Governor:
    """Keeps the ledger and decides. Raises InvalidArgument when the budget is not positive.

    costs: what was learned, for the store to keep. journal: what was decided, for people to read.
    """

    def __init__(self, budget_bytes: int, settings: Settings | None = None) -> None:
        self._books = Books(budget_bytes, settings or Settings())
        self.costs = self._books.costs
        self._admission = Admission(self._books)
        self._pressure = Pressure()
        self.journal = Journal()

    # What is declared.

    def declare(self, worker: Worker) -> None:
        """Make a worker known, or change what is known of it."""
        self._books.declare(worker)

    def hold(self, name: str, kind: Kind, size_bytes: int, now: float) -> Decisions:
        """Reserve, or adjust, what belongs to no worker and is not asked for: host, zygote, caches.

        When it grows beyond what is free, it gets what there is, idle workers are evicted, and the rest is
        warned about; call again with the next measurement.
        """
        out: list[Decision] = []
        ledger = self._books.ledger
        held = ledger.bytes_of(name)
        granted = min(size_bytes, held + max(0, ledger.free_bytes))
        if name in ledger:
            ledger.resize(name, granted)
        else:
            ledger.reserve(name, kind, granted)
        if granted < size_bytes:
            reason = f"{name} uses {mib(size_bytes)} and {mib(granted)} could be reserved"
            out.append(Warn(name, granted, size_bytes, reason))
            missing = size_bytes - granted - self._books.leaving_bytes
            for victim in choose_idle(self._books.residents.values(), missing, ledger.bytes_of_worker, now):
                evict(self._books, victim, reason, out)
        self._admission.pump(now, out)
        return self._log(now, out)

    # What callers want.

    def ask(self, ask: Ask, now: float) -> Decisions:
        """Admit, queue (after evicting or degrading others) or refuse. Raises NotFound, AlreadyExists."""
        admission = self._admission
        if not admission.queue and ask.worker is not None:
            resident = self._books.residents.get(ask.worker)
            is_new = ask.ticket not in admission.grants and ask.deadline > now
            if is_new and resident is not None and admission.joins(ask, resident):
                return (admission.join(ask, resident, now),)
        if ask.worker is not None:
            self._books.worker(ask.worker)
        out: list[Decision] = []
        admission.ask(ask, now, out)
        return self._log(now, out)

    def takes_calls(self, worker: str) -> bool:
        """Whether `enter` would be granted."""
        resident = self._books.residents.get(worker)
        return resident is not None and self._admission.is_open(resident)

    def enter(self, ticket: str, worker: str, now: float, keep_alive_seconds: float | None = None) -> bool:
        """Count a call in flight at a worker that runs; `finished` must follow.

        The short way of every warm call. False: the worker takes none now, and is to be asked for.
        """
        resident = self._books.residents.get(worker)
        if resident is None or not self._admission.is_open(resident):
            return False
        self._admission.enter(ticket, resident, (), now, keep_alive_seconds)
        return True

    def extend(self, ticket: str, deadline: float) -> None:
        """Somebody with another deadline waits for the same as a ticket in the queue."""
        waiter = self._admission.queue.get(ticket)
        if waiter is not None:
            ask = waiter.ask
            urgent_at = min(deadline, ask.urgent_at if ask.urgent_at is not None else ask.deadline)
            waiter.ask = msgspec.structs.replace(ask, deadline=max(deadline, ask.deadline), urgent_at=urgent_at)

    def refusal(self, ticket: str, now: float) -> Refuse | None:
        """What to tell somebody who gives up waiting for a ticket; None when it does not wait."""
        waiter = self._admission.queue.get(ticket)
        if waiter is None:
            return None
        refuse = refusal(self._books, waiter, now, "no room came free before its deadline")
        self.journal.add(Event(now, refuse))
        return refuse

    def size_for(self, worker: str, model: Model) -> int:
        """How much room to ask for before a model is loaded: for the best variant that can fit, or the last."""
        size = 0
        step = self._books.steps.get(model.key, 0)
        for variant in model.variants[min(step, len(model.variants) - 1) :]:
            if variant.name == PAUSED:
                break
            size = self._books.model_part(worker, model, variant).load_bytes
            ask = Ask("", 0.0, kind=Kind.MODEL, bytes=size, beside=worker)
            if self._books.needed_bytes(ask, None) <= self._books.obtainable_bytes(ask):
                break
        return size

    def exchange(self, held: str, ask: Ask, now: float) -> Decisions:
        """Give up the room of a ticket for what another one asks, before anybody else can take it."""
        out: list[Decision] = []
        self._admission.ask(ask, now, out, held)
        self._admission.pump(now, out)
        return self._log(now, out)

    def finished(self, ticket: str, now: float) -> Decisions:
        """A call has ended, well or badly, or no longer waits. Unknown tickets are ignored."""
        admission = self._admission
        waited = admission.queue.pop(ticket, None)
        admission.finished(ticket, now)
        if not waited and not admission.queue and not self._any_stale:
            return ()
        out: list[Decision] = []
        admission.pump(now, out)
        return self._log(now, out)

    # What became of workers.

    def loaded(self, ticket: str, now: float, measured_bytes: int = 0) -> Decisions:
        """What this ticket loads is ready: its reservation shrinks from the peak to what it needs in use.

        measured_bytes: PSS of the worker now, 0 when not measured.
        """
        out: list[Decision] = []
        grant = self._admission.grants.get(ticket)
        if grant is not None and grant.resident is not None and not grant.resident.leaving:
            resident = grant.resident
            resident.load_peak_bytes = max(resident.load_peak_bytes, measured_bytes)
            for part in grant.parts:
                if part.loading:
                    part.loading = False
                    self._books.ledger.resize(part.key, part.settled_bytes)
            resident.habits.saw_load(now - grant.since)
            grant.since = resident.ready_at = now
            if resident.leak is None:
                seconds = self._books.settings.leak_seconds
                resident.leak = LeakWatch(now, warm_up_seconds=seconds / 2, span_seconds=seconds)
            grant.parts = ()
            if measured_bytes:
                resident.measured_bytes = measured_bytes
                review(self._books, resident, now, out)
        self._admission.pump(now, out)
        return self._log(now, out)

    def failed(self, ticket: str, now: float) -> Decisions:
        """What this ticket was to load did not load, though its worker lives: its model's bytes are free."""
        out: list[Decision] = []
        grant = self._admission.grants.get(ticket)
        if grant is not None and grant.resident is not None and not grant.resident.leaving:
            for part in grant.parts:
                if part.model is not None:
                    self._books.ledger.release(part.key)
                    del grant.resident.parts[part.key]
                elif part.loading:
                    part.loading = False
                    self._books.ledger.resize(part.key, part.settled_bytes)
            grant.parts = ()
        self._admission.pump(now, out)
        return self._log(now, out)

    def unloaded(self, worker: str, model: str, now: float) -> Decisions:
        """A worker let a model go, by its key, and lives on. What it does not give back shows when measured."""
        out: list[Decision] = []
        resident = self._books.residents.get(worker)
        key = f"model:{worker}:{model}"
        part = resident.parts.get(key) if resident is not None else None
        if resident is not None and part is not None and not part.loading:
            del resident.parts[key]
            self._books.ledger.release(key)
            self._admission.pump(now, out)
        return self._log(now, out)

    def released(self, worker: str, now: float, peak_bytes: int = 0) -> Decisions:
        """A worker's process is gone, for whatever reason; all it held is free again.

        peak_bytes: the highest use its cgroup counted, 0 when unknown.
        """
        out: list[Decision] = []
        resident = self._books.residents.pop(worker, None)
        if resident is not None:
            if resident.loading:
                resident.load_peak_bytes = max(resident.load_peak_bytes, peak_bytes)
            else:
                resident.peak_bytes = max(resident.peak_bytes, peak_bytes)
            learn(self._books, resident)
            self._admission.forget(resident)
            self._books.ledger.release_worker(worker)
        self._admission.pump(now, out)
        return self._log(now, out)

    # What was measured.

    def measured(self, worker: str, size_bytes: int, now: float) -> Decisions:
        """PSS of a worker's processes. Over its reservation: warned, raised if there is room, else killed."""
        resident = self._books.residents.get(worker)
        if resident is None or resident.leaving:
            return ()
        out: list[Decision] = []
        resident.measured_bytes = size_bytes
        if resident.loading:
            resident.load_peak_bytes = max(resident.load_peak_bytes, size_bytes)
        else:
            resident.peak_bytes = max(resident.peak_bytes, size_bytes)
        review(self._books, resident, now, out)
        if resident.stale:
            self._admission.pump(now, out)
        return self._log(now, out)

    def pressure(self, sample: Sample, now: float) -> Decisions:
        """Judge the state of the budget and of the machine, and act on it one step at a time."""
        out: list[Decision] = []
        before = self._books.level
        self._pressure.weigh(self._books, sample, now, out)
        if self._books.level is not before or out:
            self._admission.pump(now, out)
        return self._log(now, out)

    def tick(self, now: float) -> Decisions:
        """Do what only the passing of time causes: deadlines, patience, idle unloading, a step up."""
        out: list[Decision] = []
        self._shrink(now, out)
        self._admission.pump(now, out)
        unload_idle(self._books, now, out)
        if self._admission.queue:
            self._books.trouble_at = max(self._books.trouble_at, now)
        elif restore_one(self._books, now, out):
            self._admission.pump(now, out)
        return self._log(now, out)

    def wake_at(self, now: float) -> float | None:
        """When `tick` is due next, or None while nothing depends on time."""
        times = list(self._admission.wake_times(now))
        for resident in self._books.residents.values():
            if resident.idle_seconds is not None and evictable(resident):
                times.append(resident.idle_since + resident.idle_seconds)
        if self._books.steps:
            quiet_seconds = self._books.settings.quiet_seconds
            quiet_at = self._books.trouble_at + quiet_seconds
            times.append(quiet_at if quiet_at > now else now + quiet_seconds)
        return min(times, default=None)

    # What people ask and order.

    def pin(self, worker: str, pinned: bool, now: float) -> Decisions:
        """Pin: never evicted, never stepped down. Raises NotFound."""
        self._books.worker(worker)
        self._books.pins[worker] = pinned
        out: list[Decision] = []
        if resident := self._books.residents.get(worker):
            resident.pinned = pinned
            if pinned and not resident.leaving:
                resident.stale = ""
        self._admission.pump(now, out)
        return self._log(now, out)

    def set_budget(self, budget_bytes: int, now: float) -> Decisions:
        """Change the budget while running. Raises InvalidArgument.

        Lowered below what is reserved, idle workers go and the rest follows as it is released; nothing new is
        admitted until then.
        """
        out: list[Decision] = []
        self._books.ledger.set_budget(budget_bytes)
        self._shrink(now, out)
        self._admission.pump(now, out)
        return self._log(now, out)

    @property
    def budget_bytes(self) -> int:
        return self._books.ledger.budget_bytes

    @property
    def reserved_bytes(self) -> int:
        return self._books.ledger.reserved_bytes

    def reserved_by(self, worker: str) -> int:
        """Bytes promised to a worker, with its models."""
        return self._books.ledger.bytes_of_worker(worker)

    @property
    def fixed_bytes(self) -> int:
        """Reserved for what never goes: the host and the zygote."""
        entries = self._books.ledger.entries()
        return sum(entry.bytes for entry in entries if entry.kind in (Kind.HOST, Kind.ZYGOTE))

    def declared(self, worker: str) -> Worker:
        """What is known of a worker. Raises NotFound."""
        return self._books.worker(worker)

    def models_of(self, units: Container[str]) -> tuple[Model, ...]:
        """The models that these units have asked for."""
        return tuple(model for model in self._books.models.values() if model.unit in units)

    def unload_all(self, now: float) -> Decisions:
        """Evict every worker that may go."""
        out: list[Decision] = []
        for resident in filter(evictable, self._books.residents.values()):
            evict(self._books, resident, f"{resident.name} was idle, and everything idle was to go", out)
        return self._log(now, out)

    def limit_bytes(self, worker: str) -> int:
        """What to enforce for a worker: its reservation and its share of half of what is free.

        In that slack it can be seen to overrun its reservation before it is ended for it. All limits together
        stay within the budget, but for the least slack, which each has when nothing is free.
        """
        ledger = self._books.ledger
        share = max(0, ledger.free_bytes) // 2 // max(1, len(self._books.residents))
        return min(ledger.bytes_of_worker(worker) + max(LIMIT_SLACK_BYTES, share), ledger.budget_bytes)

    def standing(self, now: float) -> Standing:
        """Everything at once, for `status` and live views."""
        books = self._books
        ledger = books.ledger
        workers = tuple(
            WorkerStanding(
                r.name,
                r.state,
                ledger.bytes_of_worker(r.name),
                r.measured_bytes,
                r.in_flight,
                0.0 if r.in_flight else max(0.0, now - r.idle_since),
                tuple(f"{p.model}:{p.variant}" for p in r.parts.values() if p.model),
            )
            for r in books.residents.values()
        )
        return Standing(
            ledger.budget_bytes,
            ledger.target_bytes,
            ledger.reserved_bytes,
            ledger.free_bytes,
            books.level.name.lower(),
            books.level_reason,
            len(self._admission.queue),
            workers,
            ledger.entries(),
            books.holders(),
            dict(books.steps),
        )

    # Within.

    @property
    def _any_stale(self) -> bool:
        return any(resident.stale for resident in self._books.residents.values())

    def _shrink(self, now: float, out: list[Decision]) -> None:
        """Evict towards a lowered budget: the cheapest idle ones, or all of them when that is not enough."""
        books = self._books
        excess = books.ledger.reserved_bytes - books.leaving_bytes - books.ledger.target_bytes
        if excess <= 0:
            return
        size = books.ledger.bytes_of_worker
        victims = choose_idle(books.residents.values(), excess, size, now)
        reason = f"the budget is lowered to {mib(books.ledger.target_bytes)}"
        for resident in victims or tuple(filter(evictable, books.residents.values())):
            evict(books, resident, reason, out)

    def _log(self, now: float, out: list[Decision]) -> Decisions:
        """Remember what was decided; shortage postpones the next step up a ladder."""
        for decision in out:
            self.journal.add(Event(now, decision))
            if isinstance(decision, Refuse | Degrade | Kill):
                self._books.trouble_at = now
        return tuple(out)
