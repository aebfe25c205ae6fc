"""The keeper of the budget: carries out what the governor decides, and tells it what happens.

Decides nothing itself. What a worker is, and how it starts and ends, is the supervisor's business; this says when
it may, in which cgroup, and who has to make room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

import msgspec

from smol.errors import ResourceExhausted
from smol.heap import return_free_memory
from smol.host.allowance import Allowance
from smol.host.cages import Cage, Cages
from smol.host.costs import read_costs, write_costs
from smol.host.memory import Gauge, machine
from smol.host.refusals import refused
from smol.locations import Locations
from smol.policy.books import Settings
from smol.policy.decisions import Admit, Decision, Evict, Kill, Queue, Raise, Refuse, Trim, Warn, mib
from smol.policy.governor import Decisions, Governor
from smol.policy.ledger import Kind
from smol.policy.pressure import Sample, poll_seconds
from smol.policy.workers import Ask, Worker

__all__ = ["Keeper", "Kept"]

_log = logging.getLogger("smol.host")
_HOST_MARGIN_BYTES = 8 << 20
"""Reserved for the host beyond what it uses: headers under way, and small attachments."""
_ZYGOTE_MARGIN_BYTES = 1 << 20
_SMALL_BODY_BYTES = 256 << 10
"""Attachments up to this are covered by the host's margin, as long as few of them are on their way."""
_SMALL_BODIES_BYTES = 4 << 20
_SAVE_SECONDS = 60.0
_HISTORY_SECONDS = 5.0
_FRESH_SECONDS = 0.25
_HISTORY = 720
_LEVELS = {Admit: logging.DEBUG, Queue: logging.DEBUG, Warn: logging.WARNING, Kill: logging.WARNING}


class Kept(Protocol):
    """A worker as far as its memory goes."""

    @property
    def pid(self) -> int:
        """Of its process; 0 when it has none."""

    def ask_to_stop(self) -> None:
        """Take no more calls; end when those that run are done."""

    def kill(self, reason: str) -> None:
        """End at once."""


class Keeper:
    """Holds governor and kernel to the same figures.

    used_bytes: by everything, as last measured; peak_bytes: the most that ever was.
    history: time since 1970, reserved and used bytes, every few seconds of the last hour.
    """

    def __init__(
        self,
        allowance: Allowance,
        locations: Locations,
        settings: Settings | None = None,
    ) -> None:
        self.allowance = allowance
        self.governor = Governor(allowance.budget.bytes, settings)
        self.history: deque[tuple[float, int, int]] = deque(maxlen=_HISTORY)
        self.peak_bytes = 0
        self.used_bytes = 0
        self._locations = locations
        self._workers: Mapping[str, Kept] = {}
        self._zygote_pid: Callable[[], int | None] = lambda: None
        self._body_bytes: Callable[[], int] = lambda: 0
        self._announce: Callable[[str, Any], None] = lambda topic, data: None
        self._on_room: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._cages = Cages(allowance.enforcement.tree)
        self._waiting: dict[str, asyncio.Future[Admit]] = {}
        self._starting: dict[str, str] = {}
        self._leases: Counter[str] = Counter()
        self._small_bytes = 0
        self._count = 0
        self._measured_at = 0.0
        self._gauge = Gauge()
        self._timer: asyncio.TimerHandle | None = None
        self._measuring: asyncio.Task[None] | None = None
        self.governor.costs.restore(read_costs(locations.state))

    def attach(
        self,
        workers: Mapping[str, Kept],
        zygote_pid: Callable[[], int | None],
        body_bytes: Callable[[], int],
        announce: Callable[[str, Any], None],
        on_room: Callable[[], None],
    ) -> None:
        """Say whom to end, what to measure, and whom to tell.

        workers: by name. body_bytes: how much of the host's memory are bodies, which have room of their own.
        announce: publishes an event. on_room: told when calls may go on that could not.
        """
        self._workers, self._zygote_pid = workers, zygote_pid
        self._body_bytes, self._announce, self._on_room = body_bytes, announce, on_room

    def start(self) -> None:
        """Measure from now on."""
        self._measure()
        self._measuring = self._loop.create_task(self._watch())

    def stop(self) -> None:
        """Keep what was learned."""
        if self._measuring is not None:
            self._measuring.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._save()

    # Workers ------------------------------------------------------------------------------------

    def declare(self, worker: Worker) -> None:
        """Make a worker known, or what is new of it."""
        self.governor.declare(worker)

    async def admit(self, worker: str, until: float) -> str:
        """Wait until a worker may start. Returns the ticket to give to `ready`, and to `leave`.

        until: the loop's time at which nobody wants it any more; `extend` moves it.
        Raises ResourceExhausted, with who holds what.
        """
        ticket = self._starting[worker] = self.ticket(f"start {worker}")
        try:
            while not (await self.ask(Ask(ticket, until, worker))).load:
                self.leave(ticket)  # One that had the same name is still on its way out.
                await asyncio.sleep(0.02)
        finally:
            del self._starting[worker]
        return ticket

    def extend(self, worker: str, until: float) -> None:
        """Somebody else waits for a worker to start, with another deadline."""
        if worker in self._starting:
            self.governor.extend(self._starting[worker], until)
            self._arm()

    def refusal(self, worker: str) -> ResourceExhausted | None:
        """What to tell somebody who gives up waiting for a worker to start; None when it waits for no memory."""
        ticket = self._starting.get(worker, "")
        refuse = self.governor.refusal(ticket, self._loop.time())
        return refused(refuse) if refuse is not None else None

    def cage(self, worker: str) -> Cage:
        """Where a worker that was admitted is to be born."""
        return self._cages.make(worker, self.governor.limit_bytes(worker))

    def ready(self, ticket: str, worker: str) -> None:
        """A worker that was admitted with this ticket serves."""
        pid = self._workers[worker].pid if worker in self._workers else 0
        now = self._loop.time()
        self.carry_out(self.governor.loaded(ticket, now, self._gauge.tree_bytes(pid, now) if pid else 0))
        self._relimit()

    def overrun(self, worker: str) -> str:
        """How a worker overran its limit, if the kernel ended one of its processes for that; else nothing."""
        if not self._cages.overrun_bytes(worker):
            return ""
        return f"it needed more than the {mib(self._cages.limit_bytes(worker))} that it may use"

    async def ended(self, worker: str) -> None:
        """A worker's process is gone. Returns once all that it left is gone too, and its memory free."""
        peak_bytes = self._cages.overrun_bytes(worker)
        await self._cages.remove(worker)
        self.carry_out(self.governor.released(worker, self._loop.time(), peak_bytes))
        self._relimit()

    # Calls --------------------------------------------------------------------------------------

    def takes_calls(self, worker: str) -> bool:
        """Whether a worker that is ready may be given calls now."""
        return self.governor.takes_calls(worker)

    def enter(self, ticket: str, worker: str, keep_alive_seconds: float | None = None) -> None:
        """A call is given to a worker; `leave` must follow."""
        self.governor.enter(ticket, worker, self._loop.time(), keep_alive_seconds)

    def leave(self, ticket: str) -> None:
        """A ticket is done."""
        decisions = self.governor.finished(ticket, self._loop.time())
        if decisions or self._waiting:
            self.carry_out(decisions)

    def takes_small(self, size_bytes: int) -> bool:
        """Whether attachments of this size need no room of their own now; `forget_small` must follow if so."""
        if size_bytes > _SMALL_BODY_BYTES or self._small_bytes + size_bytes > _SMALL_BODIES_BYTES:
            return False
        self._small_bytes += size_bytes
        return True

    def forget_small(self, size_bytes: int) -> None:
        self._small_bytes -= size_bytes

    # Room for anything --------------------------------------------------------------------------

    def ticket(self, what: str) -> str:
        """A name that no other ask has."""
        self._count += 1
        return f"{what} #{self._count}"

    async def ask(self, ask: Ask, held: str = "") -> Admit:
        """Wait for room until the deadline of `ask`. `leave` its ticket when done. Raises ResourceExhausted.

        held: a ticket whose room is given up for it.
        """
        future: asyncio.Future[Admit] = self._loop.create_future()
        self._waiting[ask.ticket] = future
        try:
            now = self._loop.time()
            self.carry_out(self.governor.exchange(held, ask, now) if held else self.governor.ask(ask, now))
            admit = await future
        except BaseException:
            self._waiting.pop(ask.ticket, None)
            self.leave(ask.ticket)
            raise
        if admit.bytes:
            self._relimit()
        return admit

    @contextlib.asynccontextmanager
    async def room(self, what: str, kind: Kind, size_bytes: int, within_seconds: float) -> AsyncGenerator[None]:
        """Room for a while that belongs to no worker. Raises ResourceExhausted."""
        ticket = self.ticket(what)
        await self.ask(Ask(ticket, self._loop.time() + within_seconds, None, None, kind, size_bytes))
        try:
            yield
        finally:
            self.leave(ticket)

    @contextlib.asynccontextmanager
    async def cage_for(self, what: str, size_bytes: int, within_seconds: float) -> AsyncGenerator[Cage]:
        """Room and a cage for a process that is no worker, and short-lived. Raises ResourceExhausted."""
        async with self.room(what, Kind.PROBE, size_bytes, within_seconds):
            try:
                yield self._cages.make(what, size_bytes)
            finally:
                await self._cages.remove(what)

    @contextlib.asynccontextmanager
    async def lease(self, worker: str, what: str, size_bytes: int, within_seconds: float) -> AsyncGenerator[None]:
        """Room that a worker uses beside its own, in processes that it starts. Raises ResourceExhausted."""
        async with self.room(f"{what} of {worker}", Kind.SANDBOX, size_bytes, within_seconds):
            self.lend(worker, size_bytes)
            try:
                yield
            finally:
                self.lend(worker, -size_bytes)

    def lend(self, worker: str, size_bytes: int) -> None:
        """Let a worker use more, or less again, than its reservation; the room is taken under another ticket."""
        self._leases[worker] += size_bytes
        self._relimit()

    def size_bytes(self, worker: str) -> int:
        """What a worker and all that it started use now, shared memory included; 0 when it does not run."""
        pid = self._workers[worker].pid if worker in self._workers else 0
        if not pid:
            return 0
        return max(self._gauge.tree_bytes(pid, self._loop.time()), self._cages.held_bytes(worker))

    def limit_bytes(self, worker: str) -> int:
        """Where a worker is stopped; 0 where nothing does."""
        return self._cages.limit_bytes(worker)

    # What people order --------------------------------------------------------------------------

    def pin(self, worker: str, pinned: bool) -> None:
        """Keep a worker, or no longer. Raises NotFound."""
        self.carry_out(self.governor.pin(worker, pinned, self._loop.time()))

    def set_budget(self, size_bytes: int) -> None:
        """Another budget from now on. The kernel follows as soon as so little is in use."""
        budget = self.allowance.choose(size_bytes)
        self.carry_out(self.governor.set_budget(budget.bytes, self._loop.time()))
        self._measure()

    async def give_back(self, *, unload: bool) -> None:
        """Return free memory to the system, here and in the workers.

        unload: end idle workers too, and wait until they are gone.
        """
        self._trim("as ordered")
        if unload:
            self.carry_out(self.governor.unload_all(self._loop.time()))
            while any(entry.state == "leaving" for entry in self.governor.standing(self._loop.time()).workers):
                await asyncio.sleep(0.01)
        self._measure()

    def look(self) -> None:
        """Measure now, unless that was just done."""
        if self._loop.time() - self._measured_at > _FRESH_SECONDS:
            self._measure()

    # Measuring ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        saved_at = self._loop.time()
        while True:
            budget = self.governor.budget_bytes
            await asyncio.sleep(poll_seconds(self.used_bytes, budget, is_enforced=self.allowance.is_hard))
            try:
                self._measure()
                if self._loop.time() - saved_at > _SAVE_SECONDS:
                    saved_at = self._loop.time()
                    self._save()
            except Exception:
                _log.exception("memory could not be measured")

    def _measure(self) -> None:
        now = self._measured_at = self._loop.time()
        host_bytes = self._gauge.size_bytes(os.getpid(), now)
        zygote_bytes = self._gauge.size_bytes(self._zygote_pid() or 0, now)
        own_bytes = max(0, host_bytes - self._body_bytes()) + _HOST_MARGIN_BYTES
        self.carry_out(self.governor.hold("host", Kind.HOST, own_bytes, now))
        self.carry_out(self.governor.hold("zygote", Kind.ZYGOTE, zygote_bytes + _ZYGOTE_MARGIN_BYTES, now))
        total_bytes = host_bytes + zygote_bytes
        for name, worker in list(self._workers.items()):
            if worker.pid:
                size = self.size_bytes(name)
                total_bytes += size
                self.carry_out(self.governor.measured(name, max(0, size - self._leases[name]), now))
        tree = self.allowance.enforcement.tree
        # What a process had before it came into the cgroup is not counted there.
        self.used_bytes = max(total_bytes, (tree.top.used_bytes() or 0) if tree is not None else 0)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes, self.allowance.peak_bytes)
        self.allowance.follow(self.governor.budget_bytes, self.used_bytes)
        self._gauge.prune(now)
        if not self.history or time.time() - self.history[-1][0] >= _HISTORY_SECONDS:
            self.history.append((time.time(), self.governor.reserved_bytes, self.used_bytes))
        facts = machine()
        stalls = facts.pressure
        sample = Sample(
            self.used_bytes,
            facts.available_bytes,
            facts.total_bytes,
            stalls.some if stalls is not None else None,
            stalls.full if stalls is not None else None,
        )
        self.carry_out(self.governor.pressure(sample, now) + self.governor.tick(now))

    # Carrying out -------------------------------------------------------------------------------

    def carry_out(self, decisions: Decisions) -> None:
        """Do what the governor decided."""
        for decision in decisions:
            self._carry_out_one(decision)
        if decisions or self._waiting:
            self._arm()
            self._on_room()

    def _carry_out_one(self, decision: Decision) -> None:
        if isinstance(decision, Admit):
            waiting = self._waiting.pop(decision.ticket, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(decision)
        elif isinstance(decision, Refuse):
            waiting = self._waiting.pop(decision.ticket, None)
            if waiting is not None and not waiting.done():
                waiting.set_exception(refused(decision))
        elif isinstance(decision, Evict):
            for name in decision.workers:
                if name in self._workers:
                    self._workers[name].ask_to_stop()
        elif isinstance(decision, Kill):
            if decision.worker in self._workers:
                self._workers[decision.worker].kill(decision.reason)
        elif isinstance(decision, Raise):
            self._relimit()
        elif isinstance(decision, Trim):
            self._trim(decision.reason)
        data = msgspec.to_builtins(decision)
        _log.log(_LEVELS.get(type(decision), logging.INFO), "%s: %s", data["type"], data["reason"])
        self._announce("host.memory", data)

    def _trim(self, reason: str) -> None:
        """Give free memory back, and have the workers do the same: they listen for the event."""
        return_free_memory()
        self._announce("host.trim", {"reason": reason})

    def _arm(self) -> None:
        """Be back when something is due, if anybody waits; what else time brings can wait for a measurement."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.governor.wake_at(self._loop.time()) if self._waiting else None
        if at is not None:
            self._timer = self._loop.call_at(max(at, self._loop.time() + 0.001), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.carry_out(self.governor.tick(self._loop.time()))

    def _relimit(self) -> None:
        """Let the kernel's limits follow the reservations, and what is free beside them."""
        for name in self._cages.names():
            worker = self._workers.get(name)
            if worker is not None and worker.pid:
                limit_bytes = self.governor.limit_bytes(name) + self._leases[name]
                self._cages.resize(name, limit_bytes, worker.pid)

    def _save(self) -> None:
        try:
            write_costs(self._locations.state, self.governor.costs.snapshot())
        except OSError as error:
            _log.warning("what was learned of memory can't be kept: %s", error)
