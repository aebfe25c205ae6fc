"""A worker: serves units over one channel, until the host drains it or goes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from smol.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    SmolError,
    Unavailable,
    nearest,
)
from smol.protocol import PROTOCOL_VERSION, Buffer, decode_payload, encode_payload, split_body
from smol.protocol.messages import (
    Call,
    Cancel,
    Credit,
    Drain,
    End,
    Hello,
    Item,
    Message,
    Progress,
    Publish,
    Result,
    Welcome,
    error_message,
)
from smol.sdk.context import Context, Environment, Link
from smol.sdk.schema import Operation, describe, operations_of
from smol.sdk.unit import Unit
from smol.transport import Caller, Channel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from smol.types import Json

__all__ = ["Worker"]

_log = logging.getLogger("smol.worker")


class _Serving:
    """A call in progress."""

    __slots__ = ("context", "credit", "task")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.credit = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Worker(Link):
    """Serves units. It is the channel's handler and the units' link to the system.

    units: name, version, unit and environment of each.
    """

    def __init__(self, units: Sequence[tuple[str, str, Unit, Environment]], threads: int) -> None:
        self._units = units
        self._operations: dict[str, tuple[Operation, Environment]] = {}
        self.descriptions = []
        for name, version, unit, environment in units:
            operations = operations_of(unit, name)
            self.descriptions.append(describe(unit, name, version, operations))
            self._operations |= {f"{name}.{key}": (value, environment) for key, value in operations.items()}
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix="smol")
        self._loop = asyncio.get_running_loop()
        self._serving: dict[int, _Serving] = {}
        self._services: list[asyncio.Task[None]] = []
        self._channel: Channel | None = None
        self._caller: Caller | None = None
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._finished = asyncio.Event()
        self._draining = False

    async def run(self, channel: Channel, *, describe_only: bool = False) -> None:
        """Get the units ready, serve them until told to stop, then close them.

        Raises SmolError when a unit can't get ready; the host has been told.
        """
        self._channel = channel
        self._caller = Caller(channel)
        try:
            if not describe_only:
                await self._prepare()
            channel.send(Hello(protocol=PROTOCOL_VERSION, units=self.descriptions))
            await self._welcomed
            if not describe_only:
                for name, _, unit, environment in self._units:
                    self._services.append(self._loop.create_task(self._run_service(name, unit, environment)))
            await self._finished.wait()
        except SmolError as error:
            channel.try_send(error_message(0, error))
            raise
        finally:
            await self._close()

    async def _prepare(self) -> None:
        for name, _, unit, environment in self._units:
            try:
                await unit.provision(Context(environment))
                await unit.validate()
            except SmolError:
                raise
            except Exception as error:
                environment.log.exception("provision failed")
                raise Internal(f"unit {name!r} can't get ready: {type(error).__name__}: {error}") from error

    async def _run_service(self, name: str, unit: Unit, environment: Environment) -> None:
        try:
            await unit.serve(Context(environment))
        except Exception as error:
            environment.log.exception("serve failed")
            assert self._channel is not None
            self._channel.try_send(error_message(0, Internal(f"unit {name!r} stopped serving: {error}")))
            self._finished.set()

    async def _close(self) -> None:
        tasks = [serving.task for serving in self._serving.values() if serving.task is not None]
        for serving in self._serving.values():
            serving.context.cancelled = True
        for task in [*tasks, *self._services]:
            task.cancel()
        await asyncio.gather(*tasks, *self._services, return_exceptions=True)
        for _, _, unit, environment in reversed(self._units):
            try:
                await unit.close()
            except Exception:
                environment.log.exception("close failed")
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._channel is not None:
            self._channel.close()

    # Channel handler ----------------------------------------------------------------------------

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if type(message) is Call:
            self._begin(channel, message, body)
        elif self._caller is not None and self._caller.handle(message, body):
            return
        elif isinstance(message, Cancel):
            self._cancel(message.id)
        elif isinstance(message, Credit):
            if message.id in self._serving:
                self._serving[message.id].credit.set()
        elif isinstance(message, Welcome):
            if not self._welcomed.done():
                self._welcomed.set_result(None)
        elif isinstance(message, Drain):
            self._draining = True
            self._finish_if_drained()

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        if self._caller is not None:
            self._caller.fail(error or Unavailable("the host is gone"))
        if not self._welcomed.done():
            self._welcomed.set_exception(error or Unavailable("the host hung up before it said welcome"))
        self._finished.set()

    # Calls --------------------------------------------------------------------------------------

    def _begin(self, channel: Channel, call: Call, body: Buffer) -> None:
        found = self._operations.get(call.operation)
        try:
            if found is None:
                raise NotFound(
                    f"no operation {call.operation!r}{nearest(call.operation, self._operations)}; "
                    f"known: {', '.join(self._operations)}"
                )
            operation, environment = found
            if operation.streaming and not call.credit:
                raise InvalidArgument(f"{call.operation} is a stream: call it as one")
            arguments = operation.decode(call.arguments, split_body(call.attachments, body))
        except SmolError as error:
            channel.try_send(error_message(call.id, error))
            return
        deadline = time.monotonic() + call.budget_ms / 1000 if call.budget_ms else None
        context = Context(environment, call_id=call.id, deadline=deadline, trace=call.trace, key=call.key)
        if operation.context_parameter is not None:
            arguments[operation.context_parameter] = context
        serving = self._serving[call.id] = _Serving(context)
        serving.task = self._loop.create_task(self._answer(channel, call, operation, arguments, serving))

    async def _answer(
        self, channel: Channel, call: Call, operation: Operation, arguments: dict[str, Any], serving: _Serving
    ) -> None:
        try:
            if operation.streaming:
                await self._send_items(channel, call.id, operation.method(**arguments), serving)
                channel.try_send(End(id=call.id))
            else:
                value = await self._run(operation, arguments, serving)
                data, headers, body = encode_payload(value)
                channel.send(Result(call.id, data, headers), body)
        except asyncio.CancelledError:
            channel.try_send(error_message(call.id, Cancelled(f"{call.operation} was cancelled")))
            if not serving.context.cancelled:
                raise
        except SmolError as error:
            channel.try_send(error_message(call.id, error))
        except Exception as error:
            serving.context.log.exception("%s failed", call.operation)
            channel.try_send(
                error_message(call.id, Internal(f"{call.operation}: {type(error).__name__}: {error}"))
            )
        finally:
            self._serving.pop(call.id, None)
            self._finish_if_drained()

    async def _run(self, operation: Operation, arguments: dict[str, Any], serving: _Serving) -> Any:
        if not operation.threaded:
            return await operation.method(**arguments)
        # A thread can't be stopped: its call stays open until it returns, so that the host knows it is busy.
        work = self._loop.run_in_executor(self._threads, partial(operation.method, **arguments))
        while True:
            try:
                value = await asyncio.shield(work)
            except asyncio.CancelledError:
                if work.cancelled() or not serving.context.cancelled:
                    raise
                continue
            if serving.context.cancelled:
                raise Cancelled("cancelled while it ran")
            return value

    async def _send_items(
        self, channel: Channel, call_id: int, items: AsyncGenerator[Any], serving: _Serving
    ) -> None:
        async with contextlib.aclosing(items) as stream:
            async for value in stream:
                data, headers, body = encode_payload(value)
                while channel.session.serving.get(call_id, 0) < 1:
                    serving.credit.clear()
                    if call_id not in channel.session.serving:
                        raise Unavailable("the caller is gone")
                    await serving.credit.wait()
                await channel.wait_writable()
                channel.send(Item(call_id, data, headers), body)

    def _cancel(self, call_id: int) -> None:
        serving = self._serving.get(call_id)
        if serving is not None and serving.task is not None:
            serving.context.cancelled = True
            serving.task.cancel()

    def _finish_if_drained(self) -> None:
        if self._draining and not self._serving:
            self._finished.set()

    # Link ---------------------------------------------------------------------------------------

    async def call(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str
    ) -> Json:
        if self._caller is None:
            raise FailedPrecondition("units can be called once the worker serves, not while it gets ready")
        reply = await self._caller.call(operation, arguments, deadline_seconds=deadline_seconds, trace=trace)
        return decode_payload(reply.value, reply.attachments)

    async def stream(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str
    ) -> AsyncIterator[Json]:
        if self._caller is None:
            raise FailedPrecondition("units can be called once the worker serves, not while it gets ready")
        async with self._caller.stream(
            operation, arguments, deadline_seconds=deadline_seconds, trace=trace
        ) as items:
            async for item in items:
                yield decode_payload(item.value, item.attachments)

    def progress(self, call_id: int, fraction: float, message: str) -> None:
        self._loop.call_soon_threadsafe(self._send_quietly, Progress(call_id, fraction, message))

    def publish(self, topic: str, data: Json) -> None:
        self._loop.call_soon_threadsafe(self._send_quietly, Publish(topic, encode_payload(data)[0]))

    def _send_quietly(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.try_send(message)
