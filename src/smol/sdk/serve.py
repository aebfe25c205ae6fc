"""A worker: serves units over one channel, until the host drains it or goes away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from smol.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unavailable,
    nearest,
)
from smol.heap import return_free_memory
from smol.protocol import PROTOCOL_VERSION, Buffer, encode_payload, split_body
from smol.protocol.messages import (
    AttachmentHeader,
    Call,
    Cancel,
    Credit,
    Drain,
    End,
    Hello,
    Item,
    Message,
    Result,
    UnitDescription,
    Welcome,
    error_message,
)
from smol.sdk.context import Context, Environment
from smol.sdk.link import HostLink
from smol.sdk.schema import Operation, describe, operations_of
from smol.sdk.unit import Unit
from smol.transport import Caller, Channel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


__all__ = ["Worker"]

_log = logging.getLogger("smol.worker")

_CLOSE_SECONDS = 1.0
"""How long calls that were cancelled because the worker ends have to clean up."""


class _Serving:
    """A call in progress. started: whether its task has run; before that, cancelling it would leave no answer."""

    __slots__ = ("context", "credit", "started", "task")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.credit = asyncio.Event()
        self.started = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Once: a second cancellation would break into the clean-up after the first."""
        if not self.context.cancelled:
            self.context.cancelled = True
            if self.started and self.task is not None:
                self.task.cancel()


class Worker:
    """Serves units. It is the channel's handler.

    units: name, version, unit and environment of each.
    """

    def __init__(self, units: Sequence[tuple[str, str, Unit, Environment]], threads: int) -> None:
        self._link = HostLink()
        self._units = [
            (name, version, unit, msgspec.structs.replace(environment, link=self._link))
            for name, version, unit, environment in units
        ]
        self._operations: dict[str, tuple[Operation, Environment]] = {}
        for name, _, unit, environment in self._units:
            operations = operations_of(unit, name)
            self._operations |= {f"{name}.{key}": (value, environment) for key, value in operations.items()}
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix="smol")
        self._loop = asyncio.get_running_loop()
        self._serving: dict[int, _Serving] = {}
        self._services: list[asyncio.Task[None]] = []
        self._channel: Channel | None = None
        self._caller: Caller | None = None
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._finished = asyncio.Event()
        self._failure: SmolError | None = None
        self._draining = False
        self._abandoning = False

    async def run(self, channel: Channel, *, describe_only: bool = False) -> None:
        """Get the units ready, serve them until told to stop, then close them.

        Raises SmolError when a unit can't get ready or stops serving; the host has been told.
        """
        self._channel = channel
        self._caller = Caller(channel)
        self._link.attach(channel, self._caller)
        try:
            if not describe_only:
                await self._prepare_unless_closed()
            channel.send(Hello(protocol=PROTOCOL_VERSION, units=self._describe(schemas=describe_only)))
            await self._welcomed
            if not describe_only:
                for name, _, unit, environment in self._units:
                    self._services.append(self._loop.create_task(self._run_service(name, unit, environment)))
                self._services.append(self._loop.create_task(self._trim_when_told(self._caller)))
            await self._finished.wait()
            if self._failure is not None:
                raise self._failure
        except SmolError as error:
            channel.try_send(error_message(0, error))
            raise
        finally:
            await self._close()

    def _describe(self, *, schemas: bool) -> list[UnitDescription]:
        descriptions = []
        for name, version, unit, _ in self._units:
            operations = [value for key, (value, _) in self._operations.items() if key.startswith(f"{name}.")]
            try:
                descriptions.append(describe(unit, name, version, operations, schemas=schemas))
            except TypeError as error:
                raise FailedPrecondition(f"unit {name!r} can't be described: {error}") from None
        return descriptions

    async def _prepare_unless_closed(self) -> None:
        """Get ready, but not for a host that has gone."""
        preparing = self._loop.create_task(self._prepare())
        closed = self._loop.create_task(self._finished.wait())
        try:
            await asyncio.wait((preparing, closed), return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                raise Unavailable("the host went away before the units were ready")
            await preparing
        finally:
            preparing.cancel()
            closed.cancel()
            await asyncio.gather(preparing, closed, return_exceptions=True)

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
        except SmolError as error:
            self._failure = error
            self._finished.set()
        except Exception as error:
            environment.log.exception("serve failed")
            self._failure = Internal(f"unit {name!r} stopped serving: {type(error).__name__}: {error}")
            self._finished.set()

    async def _trim_when_told(self, caller: Caller) -> None:
        """Give free memory back whenever the host is short of it. The engines keep no caches of their own."""
        try:
            async for _ in await caller.subscribe("host.trim"):
                await self._loop.run_in_executor(self._threads, _return_memory)
        except SmolError as error:
            _log.debug("no longer told to give memory back: %s", error)

    async def _close(self) -> None:
        await self._end_tasks()
        for _, _, unit, environment in reversed(self._units):
            try:
                await unit.close()
            except Exception:
                environment.log.exception("close failed")
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._channel is not None:
            self._channel.close()

    async def _end_tasks(self) -> None:
        for serving in list(self._serving.values()):
            serving.cancel()
        for service in self._services:
            service.cancel()
        tasks = [serving.task for serving in self._serving.values() if serving.task is not None]
        if not tasks and not self._services:
            return
        _, pending = await asyncio.wait((*tasks, *self._services), timeout=_CLOSE_SECONDS)
        if pending:
            _log.warning("%d calls or services did not stop when cancelled; they are left behind", len(pending))
            self._abandoning = True
            for task in pending:
                task.cancel()

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
                self._link.ready = True
        elif isinstance(message, Drain):
            self._draining = True
            self._finish_if_drained()

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        if self._caller is not None:
            self._caller.fail(error or Unavailable("the host is gone"))
        if not self._welcomed.done():
            self._welcomed.set_exception(error or Unavailable("the host hung up before it said welcome"))
            self._welcomed.exception()  # Nobody may be waiting for it yet.
        self._finished.set()

    # Calls --------------------------------------------------------------------------------------

    def _begin(self, channel: Channel, call: Call, body: Buffer) -> None:
        found = self._operations.get(call.operation)
        try:
            if self._draining:
                raise Unavailable("the worker is draining: try again in a moment")
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
        context = Context(
            environment,
            call_id=call.id,
            deadline=deadline,
            trace=call.trace,
            key=call.key,
            caller=call.caller,
            repeatable=operation.flags.idempotent,
        )
        if operation.context_parameter is not None:
            arguments[operation.context_parameter] = context
        serving = self._serving[call.id] = _Serving(context)
        serving.task = self._loop.create_task(self._answer(channel, call, operation, arguments, serving))

    async def _answer(
        self, channel: Channel, call: Call, operation: Operation, arguments: dict[str, Any], serving: _Serving
    ) -> None:
        serving.started = True
        try:
            if serving.context.cancelled:
                raise Cancelled(f"{call.operation} was cancelled")
            if operation.streaming:
                await self._send_items(channel, call, operation.method(**arguments), serving)
                channel.try_send(End(id=call.id))
            else:
                value = await self._run(operation, arguments, serving)
                data, headers, body = _encode_returned(call.operation, value)
                channel.send(Result(call.id, data, headers), body)
        except asyncio.CancelledError:
            channel.try_send(error_message(call.id, Cancelled(f"{call.operation} was cancelled")))
            if not serving.context.cancelled:
                raise
        except SmolError as error:
            channel.try_send(error_message(call.id, error))
        except MemoryError:
            serving.context.log.exception("%s ran out of memory", call.operation)
            exhausted = ResourceExhausted(f"{call.operation} needed more memory than its worker may use")
            channel.try_send(error_message(call.id, exhausted))
        except BaseException as error:
            serving.context.log.exception("%s failed", call.operation)
            failure = Internal(f"{call.operation}: {type(error).__name__}: {error}")
            channel.try_send(error_message(call.id, failure))
            if not isinstance(error, Exception):
                raise  # SystemExit and its like end the worker, but leave no caller waiting.
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
                if work.cancelled() or self._abandoning or not serving.context.cancelled:
                    raise
                continue
            if serving.context.cancelled:
                raise Cancelled("cancelled while it ran")
            return value

    async def _send_items(
        self, channel: Channel, call: Call, items: AsyncGenerator[Any], serving: _Serving
    ) -> None:
        async with contextlib.aclosing(items) as stream:
            async for value in stream:
                data, headers, body = _encode_returned(call.operation, value)
                while channel.session.serving.get(call.id, 0) < 1:
                    serving.credit.clear()
                    if call.id not in channel.session.serving:
                        raise Unavailable("the caller is gone")
                    await serving.credit.wait()
                await channel.wait_writable()
                channel.send(Item(call.id, data, headers), body)

    def _cancel(self, call_id: int) -> None:
        serving = self._serving.get(call_id)
        if serving is not None:
            serving.cancel()

    def _finish_if_drained(self) -> None:
        if self._draining and not self._serving:
            self._finished.set()


def _return_memory() -> None:
    gc.collect()
    return_free_memory()


def _encode_returned(operation: str, value: Any) -> tuple[msgspec.Raw, list[AttachmentHeader], list[Buffer]]:
    try:
        return encode_payload(value)
    except InvalidArgument as error:
        raise Internal(f"{operation} returned what can't be sent: {error.message}") from error
