"""One worker under supervision: from its start, through crashes and restarts, to its end.

The states and their changes are `policy.lifecycle`'s, the delays `policy.restart`'s; here they are executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Callable
from typing import Protocol

from smol.errors import FailedPrecondition, Internal, ResourceExhausted, SmolError, Unavailable
from smol.host.bus import Bus, Service
from smol.host.cages import Cage
from smol.host.connection import Connection
from smol.host.keeper import Keeper
from smol.host.launcher import Process
from smol.policy.lifecycle import Change, WorkerState, advance
from smol.policy.restart import RestartHistory, RestartPolicy
from smol.protocol import PROTOCOL_VERSION
from smol.protocol.messages import Drain, Hello, Ping, Welcome

__all__ = ["HostedWorker", "PlanFor", "WorkerPlan", "describe_status"]

_log = logging.getLogger("smol.host")
_HANG_UP_SECONDS = 0.5
"""How long a worker that closed its connection has to end by itself."""
_ADMISSION_SECONDS = 60.0
"""How long a worker waits for memory when no call with a deadline wants it."""
_RETURN_SECONDS = 1.0
"""A worker that is to run always, and ended in good order by itself, stays away for so long."""


class WorkerPlan(Protocol):
    """How a worker is started: what differs between a forked, an executed and a built-in one.

    resident: it lives in the host, and ends with it.
    """

    resident: bool

    async def prepare(self) -> None:
        """Get what it needs. Raises FailedPrecondition when it can't run here."""

    async def begin(self, connection: Connection, cage: Cage) -> Process | None:
        """Start it, connected, in a cage. Raises SmolError."""


PlanFor = Callable[["HostedWorker"], WorkerPlan]


class HostedWorker:
    """A worker that serves one unit, or a few that share it.

    proven: it has answered a call since it started. last_words: why it ended last.
    """

    def __init__(self, name: str, bus: Bus, keeper: Keeper, plan_for: PlanFor) -> None:
        self.name = name
        self.plan = plan_for(self)
        self.services: list[Service] = []
        self.state = WorkerState.DECLARED
        self.since = time.time()
        self.error: SmolError | None = None
        self.last_words = ""
        self.proven = False
        self.starts = 0
        self.crashes = 0
        self.ready_seconds = 0.0
        self.connection: Connection | None = None
        self.process: Process | None = None
        self._bus = bus
        self._keeper = keeper
        self._wanted_until = 0.0
        self._admitting: asyncio.Task[str] | None = None
        self._ticket = ""
        self._history = RestartHistory(RestartPolicy())
        self._life: asyncio.Task[None] | None = None
        self._greeting: asyncio.Future[Hello] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._premature: SmolError | None = None
        self._closed = asyncio.Event()
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._stop_asked = False
        self._kill_reason = ""
        self._drain_timer: asyncio.TimerHandle | None = None
        self._idempotent: frozenset[str] = frozenset()
        self._pinged_at = 0.0
        self._ponged_at = 0.0

    # What the bus asks --------------------------------------------------------------------------

    @property
    def resident(self) -> bool:
        return self.plan.resident

    @property
    def ready(self) -> bool:
        return self.state is WorkerState.READY

    @property
    def usable(self) -> bool:
        """Whether it can be expected to take calls now or soon."""
        if self.state is WorkerState.BACKING_OFF:
            return self.error is None
        return self.state not in (WorkerState.FAILED, WorkerState.UNAVAILABLE)

    @property
    def always(self) -> bool:
        """Whether one of its units is to run always."""
        return any(service.manifest.restart == "always" for service in self.services)

    @property
    def pid(self) -> int:
        """Of its process; 0 when it has none."""
        return self.process.pid if self.process is not None else 0

    def is_idempotent(self, operation: str) -> bool:
        return operation in self._idempotent

    def demand(self, until: float | None = None) -> None:
        """Somebody has work for it. Raises Unavailable or FailedPrecondition, with the reason, when it can't run.

        until: the loop's time at which they no longer have; None for a while from now.
        """
        self._refuse_if_off()
        if until is None:
            until = asyncio.get_running_loop().time() + _ADMISSION_SECONDS
        if until > self._wanted_until or self._admitting is not None:
            self._wanted_until = max(until, self._wanted_until)
            self._keeper.extend(self.name, until)
        if not self.usable:
            soon = {"retry_after_ms": 1000} if self.state is WorkerState.BACKING_OFF else {}
            reason = self.error or "it is not running"
            raise Unavailable(f"worker {self.name!r} is {self.state}: {reason}", **soon)
        if self._life is None:
            self._stop_asked = False
            self._set(Change.START)
            self._life = asyncio.get_running_loop().create_task(self._live())
        elif self.state is WorkerState.STOPPED:
            self._wake.set()

    def _refuse_if_off(self) -> None:
        """Raises the refusal of its units when all of them are disabled or drained."""
        refusals = [self._bus.refusal(service.manifest.name) for service in self.services]
        error = refusals[0] if refusals and None not in refusals else None
        if error is not None:
            raise error

    def try_demand(self) -> None:
        """Start it if it can run; why it can't is seen from its state."""
        with contextlib.suppress(Unavailable, FailedPrecondition):
            self.demand(max((p.deadline for service in self.services for p in service.waiting), default=None))

    def greeted(self, hello: Hello) -> None:
        """It says what it serves."""
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(hello)

    def complained(self, error: SmolError) -> None:
        """It says why it can't go on."""
        self.error = error
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(error)

    def asked_to_stop(self) -> None:
        """It wants no more calls."""
        if self.ready:
            self._set(Change.DRAIN)

    def connection_lost(self, error: SmolError | None) -> None:
        """Its connection closed; the process, if it lives, is worth nothing now."""
        overrun = self._keeper.overrun(self.name)
        self.last_words = str(overrun or self.error or error or "it closed its connection")
        if self._greeting is not None and not self._greeting.done():
            self._premature = Unavailable("it ended before it was ready")
            self._greeting.set_exception(error or self._premature)
        self._closed.set()
        if self.state is WorkerState.READY:
            self._set(Change.CRASHED)

    # Liveness -----------------------------------------------------------------------------------

    def ping(self, now: float, timeout_seconds: float) -> None:
        """Ask whether it is alive; kill it when it has not answered for too long. now: the loop's time."""
        if self.state not in (WorkerState.READY, WorkerState.DRAINING) or self.connection is None:
            return
        if self._pinged_at > self._ponged_at and now - self._pinged_at > timeout_seconds:
            self.kill(f"it has not answered a ping for {now - self._pinged_at:.0f} s")
        elif self._pinged_at <= self._ponged_at:
            self._pinged_at = now
            self.connection.send(Ping())

    def answered_ping(self, now: float) -> None:
        self._ponged_at = now

    def kill(self, reason: str) -> None:
        """End it at once; it will be started again."""
        _log.warning("worker %s is killed: %s", self.name, reason)
        self.error = None
        self._kill_reason = reason
        if self.process is not None:
            self.process.kill()
        if self.connection is not None and self.connection.channel is not None:
            self.connection.channel.abort(Unavailable(f"the worker was killed: {reason}"))

    # Life ---------------------------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """Wait until it takes calls. Raises Unavailable when it can't."""
        while not self.ready:
            self.demand()
            self._changed.clear()
            await self._changed.wait()
            if self.state is WorkerState.STOPPED and isinstance(self.error, ResourceExhausted):
                raise self.error

    async def stop(self) -> None:
        """Let it finish what it has, then end it; calls that wait stay for its next life."""
        self.ask_to_stop()
        if self._life is not None:
            await asyncio.wait([self._life], timeout=self._stop_timeout() + 1.0)

    def ask_to_stop(self) -> None:
        """It gets no more calls from now on."""
        self._stop_asked = True
        self._wake.set()
        if self.usable or self.state is WorkerState.BACKING_OFF:
            starting = self.state is WorkerState.STARTING
            self._set(Change.DRAIN)
            if starting:
                self._stop_start()
            elif self.state is WorkerState.DRAINING:
                self._say_drain()

    async def renew(self) -> None:
        """Stop it, so that what it serves next is what its units are now.

        Calls that wait for a start under way get their turn first: however often this is asked, they go on.
        """
        while self.state is WorkerState.STARTING and self._preparing is None and self._has_waiting():
            self._changed.clear()
            await self._changed.wait()
        await self.stop()
        self.reset()
        if self.always:
            self.try_demand()

    def reset(self) -> None:
        """Forget crashes and errors, as a person asks."""
        self._history.forget()
        self.error = None
        if self.state is WorkerState.BACKING_OFF:
            self._wake.set()
        elif self._life is None and (not self.usable or self.state is WorkerState.STOPPED):
            self._set(Change.RESET)

    async def _live(self) -> None:
        """Start, serve, end; again after a crash, until it is stopped or crashes too often."""
        try:
            while await self._live_once():
                self._set(Change.START)
        finally:
            self._life = None
            self._changed.set()
            if self.state is WorkerState.STOPPED and self._has_waiting():
                self.try_demand()

    async def _live_once(self) -> bool:
        """From start to end. Returns whether to start again, after a pause."""
        if await self._prepare() and await self._admit():
            await self._serve()
        if self.state is WorkerState.DRAINING:
            self.error = None
            self._set(Change.EXITED)
            if self._stop_asked or not self.always:
                return False
            await self._pause(_RETURN_SECONDS)
            return not self._stop_asked
        if self.state is WorkerState.STOPPED and self.always:  # Refused: what runs always tries again.
            await self._pause(_ADMISSION_SECONDS)
            return not self._stop_asked
        if self.state not in (WorkerState.STARTING, WorkerState.BACKING_OFF):
            return False
        delay = self._crash()
        if delay is None:
            return False
        await self._pause(delay)
        return self.state is WorkerState.BACKING_OFF

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _prepare(self) -> bool:
        """Get ready what it needs. Returns whether that was possible, and still is wanted."""
        self._preparing = asyncio.get_running_loop().create_task(self.plan.prepare())
        await asyncio.wait([self._preparing])
        preparing, self._preparing = self._preparing, None
        error = None if preparing.cancelled() else preparing.exception()
        if self.state is not WorkerState.STARTING:
            return False
        if isinstance(error, FailedPrecondition):
            self._cannot_run(error)
        elif error is not None:
            self.error = _explain(error)
        return error is None and not preparing.cancelled()

    async def _admit(self) -> bool:
        """Wait for the memory it needs. Returns whether it got it, and still is wanted."""
        if self.resident:
            return True
        self._admitting = asyncio.get_running_loop().create_task(self._keeper.admit(self.name, self._wanted_until))
        await asyncio.wait([self._admitting])
        admitting, self._admitting = self._admitting, None
        error = None if admitting.cancelled() else admitting.exception()
        if error is None and not admitting.cancelled():
            self._ticket = admitting.result()
        if self.state is not WorkerState.STARTING:
            await self._leave()
            return False
        if error is not None:
            self.error = _explain(error)
            self._set(Change.REFUSED)
            self._refuse_waiting(self.error)
        return error is None and not admitting.cancelled()

    async def _leave(self) -> None:
        """It holds no memory any more."""
        ticket, self._ticket = self._ticket, ""
        if ticket:
            await self._keeper.ended(self.name)
            self._keeper.leave(ticket)

    async def _serve(self) -> None:
        """One life of the process, from birth to death."""
        self.starts += 1
        self.proven = False
        self._kill_reason = ""
        self._closed.clear()
        started = time.monotonic()
        connection = Connection(self._bus, self)
        expected = {service.manifest.name for service in self.services}
        greeting = self._greeting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._start_timeout()):
                cage = self._keeper.cage(self.name) if not self.resident else Cage()
                self.process = await self.plan.begin(connection, cage)
                self.connection = connection
                hello = await greeting
            self._accept(hello, expected, connection)
            self.ready_seconds = time.monotonic() - started
            await self._closed.wait()
        except TimeoutError:
            self.error = Unavailable(f"it was not ready within {self._start_timeout():g} s")
        except Exception as error:
            self.error = _explain(error)
        finally:
            self._greeting = None
            if greeting.done() and not greeting.cancelled():
                greeting.exception()  # Looked at, even if nobody came to wait for it.
            await self._bury(connection)

    def _accept(self, hello: Hello, expected: set[str], connection: Connection) -> None:
        served = {unit.name for unit in hello.units}
        if served != expected:
            raise Internal(f"it serves {sorted(served) or 'no unit'}, its manifest says {sorted(expected)}")
        if self.state is not WorkerState.STARTING:
            raise Unavailable("it was stopped while it started")
        self._idempotent = frozenset(
            f"{unit.name}.{operation.name}" for unit in hello.units for operation in unit.operations
            if operation.idempotent
        )  # fmt: skip
        assert connection.channel is not None
        connection.send(Welcome(PROTOCOL_VERSION, "smol", connection.channel.session.limits))
        self.error = None
        self._pinged_at = self._ponged_at = 0.0
        self._set(Change.GREETED)
        if not self.resident:
            self._keeper.ready(self._ticket, self.name)
        for service in self.services:
            self._bus.pump(service)
        self._keeper.leave(self._ticket)

    async def _bury(self, connection: Connection) -> None:
        """Make sure that the connection and the process are gone, and say how it ended."""
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if connection.channel is not None and not connection.channel.closed:
            connection.channel.close()
            if self.state is not WorkerState.DRAINING:
                connection.channel.abort()
            await connection.channel.wait_closed()
        how = self._kill_reason and f"killed: {self._kill_reason}"
        process = self.process
        if process is not None:
            process.assume_ended()
            patience = self._stop_timeout() if self.state is WorkerState.DRAINING else _HANG_UP_SECONDS
            status = await process.end(0.0 if how else patience)
            how = how or self._keeper.overrun(self.name) or describe_status(status)
        self.process = None
        self.connection = None
        await self._leave()
        self.last_words = how or self.last_words
        if self.error is not None and self.error is self._premature:
            self.error = Unavailable(f"it ended before it was ready{f' ({how})' if how else ''}")

    def _crash(self) -> float | None:
        """Decide what follows a crash: seconds until the next start, or None to give up."""
        self.crashes += 1
        policy = self.services[0].manifest if self.services else None
        if policy is not None:
            self._history.policy = RestartPolicy(policy.max_restarts, policy.restart_period_seconds)
        never = policy is not None and policy.restart == "never"
        dice = random.random()  # noqa: S311  (spreads restarts; nothing secret)
        delay = None if never else self._history.record(time.monotonic(), proven=self.proven, dice=dice)
        unready = self.state is WorkerState.STARTING
        if delay is None:
            why = "it ended, and is never restarted" if never else "crashed too often; the last time"
            self.error = self.error or Unavailable(f"{why}: {self.last_words}")
            self._set(Change.GAVE_UP)
            _log.error("worker %s has failed: %s", self.name, self.error)
        else:
            if unready:
                self._set(Change.CRASHED)
            else:
                self.error = None
            _log.warning(
                "worker %s ended (%s); next start in %.2f s", self.name, self.error or self.last_words, delay
            )
        if delay is None or unready:
            self._refuse_waiting()
        return delay

    def _cannot_run(self, error: SmolError) -> None:
        self.error = error
        self._set(Change.CANNOT_RUN)
        _log.warning("worker %s is unavailable: %s", self.name, error)
        self._refuse_waiting()

    def _has_waiting(self) -> bool:
        return any(service.waiting for service in self.services)

    def _refuse_waiting(self, error: SmolError | None = None) -> None:
        error = error or Unavailable(f"worker {self.name!r} can't run: {self.error}")
        for service in self.services:
            self._bus.refuse_waiting(service, error)

    def _stop_start(self) -> None:
        """Give up a start that is under way: nobody has been promised anything yet."""
        for waiting in (self._preparing, self._admitting):
            if waiting is not None:
                waiting.cancel()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(Unavailable("it was stopped while it started"))

    def _say_drain(self) -> None:
        if self.connection is not None:
            self.connection.send(Drain())
        if self._drain_timer is None:
            loop = asyncio.get_running_loop()
            self._drain_timer = loop.call_later(self._stop_timeout(), self.kill, "it did not stop in time")

    def _set(self, change: Change) -> None:
        before = self.state
        self.state = advance(before, change)
        if self.state is not before:
            self.since = time.time()
            _log.info("worker %s is %s", self.name, self.state)
            self._bus.topics.announce(
                "host.worker",
                {"worker": self.name, "state": self.state, "before": before, "reason": str(self.error or "")},
            )
        self._changed.set()

    def _start_timeout(self) -> float:
        return max((service.manifest.start_timeout_seconds for service in self.services), default=30.0)

    def _stop_timeout(self) -> float:
        return max((service.manifest.stop_timeout_seconds for service in self.services), default=5.0)


def _explain(error: BaseException) -> SmolError:
    """What a start failed of; what is no error of Smol's is a bug or a broken machine, and logged in full."""
    if isinstance(error, SmolError):
        return error
    _log.error("a worker could not be started", exc_info=error)
    return Internal(f"it could not be started: {type(error).__name__}: {error}")


def describe_status(status: int | None) -> str:
    """How a process ended, in words; empty if that is not known."""
    if status is None:
        return ""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
