"""The bus: carries calls and their answers between connections.

It routes, bounds and times calls. Which worker runs is the supervisor's business, events are `topics`'.
Everything here happens in callbacks of one event loop; nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from smol.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unavailable,
    nearest,
)
from smol.host.calls import BusLimits, PendingCall, Service
from smol.host.connection import Connection
from smol.host.keeper import Keeper
from smol.host.loads import Loads
from smol.host.topics import Topics
from smol.policy.ledger import Kind
from smol.policy.routing import Route, route_call
from smol.policy.workers import Ask
from smol.protocol import PROTOCOL_VERSION, Buffer
from smol.protocol.messages import (
    MAX_CREDIT,
    Call,
    Cancel,
    Credit,
    Drain,
    End,
    Error,
    Hello,
    Item,
    Message,
    Pong,
    Progress,
    Publish,
    Result,
    Subscribe,
    Unsubscribe,
    Welcome,
    error_message,
    to_error,
)

if TYPE_CHECKING:
    from smol.host.worker import HostedWorker

__all__ = ["Bus", "BusLimits", "PendingCall", "Service"]

_log = logging.getLogger("smol.host")
_REPEATS = 5
"""How often a call is taken back from its worker to wait for room."""
_PROGRESS_CHARACTERS = 1000
"""Even as six bytes of JSON each they fit what every side accepts."""


class Bus:
    """Routes the messages of all connections.

    services: units by name. clients: connections that are not to workers.
    held_bytes: attachments of all calls on their way.
    draining: no new calls but those that running calls make; closed: none at all.
    on_stuck: told of a worker that does not end a cancelled call.
    """

    def __init__(
        self, limits: BusLimits, keeper: Keeper, loads: Loads, on_stuck: Callable[[HostedWorker, str], None]
    ) -> None:
        self.limits = limits
        self.keeper = keeper
        self._loads = loads
        self.services: dict[str, Service] = {}
        self.topics = Topics()
        self.clients: set[Connection] = set()
        self.draining = False
        self.closed = False
        self.calls_total = 0
        self.refusal: Callable[[str], SmolError | None] = lambda unit: None
        """Why a unit takes no calls though it could."""
        self._on_stuck = on_stuck
        self.held_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._handlers: Mapping[type[Message], Callable[..., None]] = {
            Call: self._call,
            Result: self._result,
            Error: self._error,
            Item: self._item,
            End: self._end,
            Progress: self._progress,
            Credit: self._credit,
            Cancel: self._cancel,
            Publish: self._publish,
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            Hello: self._hello,
            Pong: self._pong,
            Drain: self._drain,
        }

    def receive(self, connection: Connection, message: Message, body: Buffer) -> None:
        """A message came in."""
        self._handlers[type(message)](connection, message, body)

    @property
    def busy(self) -> bool:
        """Whether any call is on its way."""
        return any(service.load.in_flight or service.waiting for service in self.services.values())

    # From callers -------------------------------------------------------------------------------

    def _call(self, caller: Connection, call: Call, body: Buffer) -> None:
        self.calls_total += 1
        try:
            self._refuse_if_draining(caller)
            service = self._find(call.operation)
            if len(caller.asked) >= self.limits.calls:
                raise ResourceExhausted(
                    f"{len(caller.asked)} calls in flight on this connection: the limit is {self.limits.calls}",
                    retry_after_ms=100,
                )
            if len(body) and self.held_bytes + len(body) > self.limits.held_bytes:
                raise ResourceExhausted(
                    f"calls on their way hold {self.held_bytes} bytes of attachments: "
                    f"the limit is {self.limits.held_bytes}",
                    retry_after_ms=500,
                )
            seconds = call.budget_ms / 1000 if call.budget_ms > 0 else self.limits.default_deadline_seconds
            seconds = min(seconds, self.limits.max_deadline_seconds)
            pending = PendingCall(caller, call, body, service, self._loop.time() + seconds)
            pending.small = len(body) > 0 and self.keeper.takes_small(len(body))
            if len(body) and not pending.small:
                pending.placing = self._loop.create_task(self._place(pending))
            else:
                self._admit(pending)
        except SmolError as error:
            caller.send(error_message(call.id, error))
            return
        caller.asked[call.id] = pending
        self.held_bytes += len(body)
        pending.timer = self._loop.call_later(seconds, self._expire, pending)

    async def _place(self, pending: PendingCall) -> None:
        """Wait until there is room for the body of a call, here and in the worker, then go on with it."""
        worker = pending.service.worker
        ticket = self.keeper.ticket(f"body for {worker.name}")
        size = 2 * len(pending.body)
        beside = None if worker.resident else worker.name
        try:
            await self.keeper.ask(Ask(ticket, pending.deadline, kind=Kind.BODY, bytes=size, beside=beside))
            pending.room = ticket
            self._admit(pending)
        except SmolError as error:
            self._settle(pending, error_message(pending.call.id, error))
        finally:
            pending.placing = None

    def _refuse_if_draining(self, caller: Connection) -> None:
        """What runs may finish, and for that call others; nobody else may begin anything."""
        if self.draining and (self.closed or not caller.forwarded):
            raise Unavailable("the host is shutting down")

    def _find(self, operation: str) -> Service:
        name, dot, rest = operation.partition(".")
        if not dot or not rest:
            raise InvalidArgument(f"{operation!r} is not an operation: write unit.operation, as math.evaluate")
        service = self.services.get(name)
        if service is None:
            known = sorted(self.services)
            raise NotFound(f"no unit {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        if (refusal := self.refusal(name)) is not None:
            raise refusal
        if not service.worker.usable and service.manifest.fallback in self.services:
            service = self.services[service.manifest.fallback]
        return service

    def _admit(self, pending: PendingCall) -> None:
        service = pending.service
        worker = service.worker
        decision = route_call(service.load, ready=self._takes_calls(worker))
        if decision is Route.FORWARD and self._try_forward(pending):
            return
        if decision is Route.REFUSE:
            load = service.load
            raise ResourceExhausted(
                f"unit {service.manifest.name!r} is busy: {load.in_flight} calls run, {load.waiting} wait",
                retry_after_ms=load.retry_after_ms(),
            )
        worker.demand(pending.deadline)  # Raises Unavailable when it can't run.
        service.waiting.append(pending)
        service.load.waiting += 1

    def _takes_calls(self, worker: HostedWorker) -> bool:
        return worker.ready and (worker.resident or self.keeper.takes_calls(worker.name))

    def _try_forward(self, pending: PendingCall) -> bool:
        """Give the call to its worker. False when that has just died, and the host is yet to be told."""
        target = pending.service.worker.connection
        if target is None or target.channel is None or target.channel.closing:
            return False
        call = pending.call
        now = self._loop.time()
        worker_id = target.channel.session.next_id()
        budget_ms = max(1, int((pending.deadline - now) * 1000))
        target.channel.send(
            Call(
                worker_id,
                pending.operation,
                call.arguments,
                call.attachments,
                budget_ms,
                call.credit,
                call.trace,
                call.key,
                pending.caller.worker.name if pending.caller.worker is not None else "",
            ),
            (pending.body,) if len(pending.body) else (),
        )
        pending.worker = target
        pending.worker_id = worker_id
        pending.forwarded_at = now
        pending.attempts += 1
        pending.service.load.in_flight += 1
        target.forwarded[worker_id] = pending
        worker = pending.service.worker
        if not worker.resident:
            pending.ticket = f"{worker.name}/{worker_id}"
            self.keeper.enter(pending.ticket, worker.name, pending.keep_alive_seconds)
            if pending.room:
                pending.lent_bytes = len(pending.body)
                self.keeper.lend(worker.name, pending.lent_bytes)
        return True

    def pump(self, service: Service) -> None:
        """Give the unit's worker what waits for it, as far as it takes calls."""
        load = service.load
        while service.waiting and load.in_flight < load.concurrency and self._takes_calls(service.worker):
            pending = service.waiting.popleft()
            load.waiting -= 1
            if pending.settled:
                continue
            try:
                forwarded = self._try_forward(pending)
            except SmolError as error:
                self._settle(pending, error_message(pending.call.id, error))
                continue
            if not forwarded:
                service.waiting.appendleft(pending)
                load.waiting += 1
                return

    def pump_all(self) -> None:
        """Workers may take calls that did not before."""
        for service in self.services.values():
            if service.waiting:
                self.pump(service)

    def refuse_waiting(self, service: Service, error: SmolError) -> None:
        """Answer every call that waits for a unit with `error`."""
        while service.waiting:
            pending = service.waiting.popleft()
            service.load.waiting -= 1
            if not pending.settled:
                self._settle(pending, error_message(pending.call.id, error))

    def _expire(self, pending: PendingCall) -> None:
        error: SmolError | None = None
        if pending.worker is None:
            error = self.keeper.refusal(pending.service.worker.name)
        if error is None:
            waited = "" if pending.worker is not None else ", still waiting for its turn"
            error = DeadlineExceeded(f"{pending.call.operation} did not answer before its deadline{waited}")
        self._give_up(pending, error)

    def _cancel(self, caller: Connection, message: Cancel, body: Buffer) -> None:
        pending = caller.asked.get(message.id)
        if pending is not None:
            self._give_up(pending, Cancelled(f"{pending.call.operation} was cancelled by its caller"))

    def _give_up(self, pending: PendingCall, error: SmolError) -> None:
        """Answer the caller now; the worker is told, and watched until it has ended the call."""
        self._settle(pending, error_message(pending.call.id, error))
        target = pending.worker
        if target is None:
            self._forget_waiting(pending)
        elif pending.worker_id in target.forwarded:
            target.send(Cancel(pending.worker_id, error.code))
            pending.timer = self._loop.call_later(self.limits.cancel_grace_seconds, self._report_stuck, pending)

    def _forget_waiting(self, pending: PendingCall) -> None:
        try:
            pending.service.waiting.remove(pending)
        except ValueError:
            return
        pending.service.load.waiting -= 1

    def _report_stuck(self, pending: PendingCall) -> None:
        target = pending.worker
        if target is not None and target.worker is not None and pending.worker_id in target.forwarded:
            self._on_stuck(target.worker, pending.call.operation)

    def _credit(self, caller: Connection, message: Credit, body: Buffer) -> None:
        pending = caller.asked.get(message.id)
        if pending is None:
            return
        if not pending.streamed:
            # For when it is forwarded, or once more after its worker died.
            credit = min(MAX_CREDIT, pending.call.credit + message.items)
            pending.call = msgspec.structs.replace(pending.call, credit=credit)
        if pending.worker is not None:
            pending.worker.send(Credit(pending.worker_id, message.items))

    def _settle(self, pending: PendingCall, answer: Message, body: tuple[Buffer, ...] = ()) -> None:
        """Send the last answer, once."""
        if pending.timer is not None:
            pending.timer.cancel()
        if pending.settled:
            return
        pending.settled = True
        caller = pending.caller
        if caller.asked.pop(pending.call.id, None) is not None:
            self.held_bytes -= len(pending.body)
            self._free(pending)
        pending.body = b""
        try:
            if body:
                self._check_reader(caller)
            caller.send(answer, body)
        except ResourceExhausted as error:
            caller.send(error_message(pending.call.id, error))

    def _free(self, pending: PendingCall) -> None:
        """The body of a call is let go."""
        if pending.placing is not None and pending.placing is not asyncio.current_task():
            pending.placing.cancel()
        self._drop_room(pending)
        if pending.room:
            self.keeper.leave(pending.room)
        elif pending.small:
            self.keeper.forget_small(len(pending.body))

    def _check_reader(self, caller: Connection) -> None:
        """Raises ResourceExhausted when too much waits already for a caller that does not read."""
        unsent = caller.channel.unsent_bytes if caller.channel is not None else 0
        if unsent > self.limits.unread_bytes:
            raise ResourceExhausted(f"{unsent} bytes wait for this caller, which does not read them")

    # From workers -------------------------------------------------------------------------------

    def _finish(self, connection: Connection, worker_id: int) -> PendingCall | None:
        """A worker ended a call: its place is free."""
        pending = connection.forwarded.pop(worker_id, None)
        if pending is None:
            return None
        load = pending.service.load
        load.in_flight -= 1
        load.finished(self._loop.time() - pending.forwarded_at)
        if pending.timer is not None:
            pending.timer.cancel()
        return pending

    def _leave(self, pending: PendingCall) -> None:
        """It is no longer in flight. After `pump`, lest a worker looks idle between two calls."""
        if pending.ticket:
            ticket, pending.ticket = pending.ticket, ""
            if pending.lent_bytes:
                self.keeper.lend(pending.service.worker.name, -pending.lent_bytes)
                pending.lent_bytes = 0
            self.keeper.leave(ticket)

    def _result(self, connection: Connection, message: Result, body: Buffer) -> None:
        pending = self._finish(connection, message.id)
        if pending is None:
            return
        if connection.worker is not None:
            connection.worker.proven = True
        if not pending.settled:
            answer = Result(pending.call.id, message.value, message.attachments)
            self._settle(pending, answer, (body,) if len(body) else ())
        if pending.service.waiting:
            self.pump(pending.service)
        self._leave(pending)

    def _error(self, connection: Connection, message: Error, body: Buffer) -> None:
        if message.id == 0:
            if connection.worker is not None:
                connection.worker.complained(to_error(message))
            return
        pending = connection.forwarded.get(message.id)
        wish = message.details.get("repeat")
        worker = connection.worker
        if pending is not None and isinstance(wish, str) and worker is not None and not worker.resident:
            if self._may_repeat(pending, worker, _REPEATS):
                self._finish(connection, message.id)
                pending.placing = self._loop.create_task(self._wait_for_room(pending, wish))
                self._leave(pending)
                return
            self._loads.forget_wish(wish)
        self._end_with(connection, message.id, lambda call_id: msgspec.structs.replace(message, id=call_id))

    def _end(self, connection: Connection, message: End, body: Buffer) -> None:
        self._end_with(connection, message.id, End)

    def _end_with(self, connection: Connection, worker_id: int, answer: Callable[[int], Message]) -> None:
        pending = self._finish(connection, worker_id)
        if pending is None:
            return
        if connection.worker is not None:
            connection.worker.proven = True
        self._settle(pending, answer(pending.call.id))
        self.pump(pending.service)
        self._leave(pending)

    def _item(self, connection: Connection, message: Item, body: Buffer) -> None:
        pending = connection.forwarded.get(message.id)
        if pending is None or pending.settled:
            return
        item = Item(pending.call.id, message.value, message.attachments)
        pending.streamed = True
        try:
            self._check_reader(pending.caller)
            pending.caller.send(item, (body,) if len(body) else ())
        except ResourceExhausted as error:  # More than this caller takes: its stream ends, the worker lives.
            self._give_up(pending, error)

    def _progress(self, connection: Connection, message: Progress, body: Buffer) -> None:
        pending = connection.forwarded.get(message.id)
        if pending is not None and not pending.settled:
            text = message.message[:_PROGRESS_CHARACTERS]
            pending.caller.send(Progress(pending.call.id, message.fraction, text))

    # Events -------------------------------------------------------------------------------------

    def _publish(self, connection: Connection, message: Publish, body: Buffer) -> None:
        if message.topic.partition(".")[0] == "host":
            _log.warning("%s tried to publish as the host: %s", connection.name, message.topic[:80])
            return
        self.topics.publish(message.topic, message.data)

    def _subscribe(self, connection: Connection, message: Subscribe, body: Buffer) -> None:
        try:
            self.topics.subscribe(connection, message.id, message.topic)
        except SmolError as error:
            connection.send(error_message(message.id, error))
            return
        connection.send(Result(message.id))

    def _unsubscribe(self, connection: Connection, message: Unsubscribe, body: Buffer) -> None:
        if self.topics.unsubscribe(connection, message.id):
            connection.send(End(message.id))

    # Connections --------------------------------------------------------------------------------

    def _hello(self, connection: Connection, message: Hello, body: Buffer) -> None:
        if connection.worker is not None:
            connection.worker.greeted(message)
            return
        assert connection.channel is not None
        if message.units:
            raise InvalidArgument("units are started by the host: add this one with 'smol unit add'")
        if len(self.clients) > self.limits.connections:
            raise ResourceExhausted(
                f"{len(self.clients)} clients are connected: the limit is {self.limits.connections}",
                retry_after_ms=1000,
            )
        connection.name = message.name or connection.name
        connection.greeted = True
        connection.send(Welcome(PROTOCOL_VERSION, "smol", connection.channel.session.limits))

    def _pong(self, connection: Connection, message: Pong, body: Buffer) -> None:
        if connection.worker is not None:
            connection.worker.answered_ping(self._loop.time())

    def _drain(self, connection: Connection, message: Drain, body: Buffer) -> None:
        if connection.worker is not None:
            connection.worker.asked_to_stop()

    def lose(self, connection: Connection, error: SmolError | None) -> None:
        """A connection closed: its calls are cancelled, those it was given fail or go elsewhere."""
        self.clients.discard(connection)
        self.topics.forget(connection)
        for pending in list(connection.asked.values()):
            self._give_up(pending, Cancelled("the caller went away"))
        if connection.worker is not None:
            # First the state, so that what is retried does not go to the dead worker again.
            connection.worker.connection_lost(error)
        affected = set()
        for worker_id in list(connection.forwarded):
            lost = self._finish(connection, worker_id)
            if lost is not None:
                affected.add(lost.service)
                self._leave(lost)
                self._recover(lost, connection)
        for service in affected:
            self.pump(service)

    async def _wait_for_room(self, pending: PendingCall, wish: str) -> None:
        """Take a call back from its worker until there is room for what it needs to load there."""
        pending.worker = None
        self._time(pending)
        try:
            self._drop_room(pending)
            pending.loading = await self._loads.find_room(wish, pending.deadline)
            self._repeat(pending)
        except SmolError as error:
            self._settle(pending, error_message(pending.call.id, error))
        finally:
            self._loads.forget_wish(wish)
            pending.placing = None

    def _drop_room(self, pending: PendingCall) -> None:
        """What was to be loaded is loaded, or is not needed any more."""
        if pending.loading:
            ticket, pending.loading = pending.loading, ""
            self.keeper.leave(ticket)

    def _may_repeat(self, pending: PendingCall, worker: HostedWorker | None, limit: int = 1) -> bool:
        """Whether a call can be given to a worker once more without anybody noticing."""
        service = pending.service
        there = self.services.get(service.manifest.name) is service and not self.closed
        fresh = pending.attempts <= limit and not pending.streamed and not pending.settled
        return there and fresh and worker is not None and worker.is_idempotent(pending.operation)

    def _repeat(self, pending: PendingCall) -> None:
        pending.worker = None
        try:
            pending.service.worker.demand(pending.deadline)
        except SmolError as error:
            self._settle(pending, error_message(pending.call.id, error))
            return
        # At the head, beyond the queue's bound: it was admitted once already.
        pending.service.waiting.appendleft(pending)
        pending.service.load.waiting += 1
        self._time(pending)
        self.pump(pending.service)

    def _time(self, pending: PendingCall) -> None:
        """Have it end at its deadline."""
        if pending.timer is not None:
            pending.timer.cancel()
        pending.timer = self._loop.call_at(pending.deadline, self._expire, pending)

    def _recover(self, pending: PendingCall, connection: Connection) -> None:
        """The worker died with this call: once more elsewhere if that is harmless, else the caller is told."""
        if pending.settled:
            return
        operation = pending.call.operation
        worker = connection.worker
        overran = worker is not None and self.keeper.overrun(worker.name)  # As it would again.
        if not overran and self._may_repeat(pending, worker):
            self._repeat(pending)
            return
        reason = worker.last_words if worker is not None else "it went away"
        died = Unavailable(f"the worker of {operation} ended during the call: {reason}", retry_after_ms=100)
        self._settle(pending, error_message(pending.call.id, died))
