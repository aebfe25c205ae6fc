"""An asynchronous client: one connection to a host."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from smol.client.arguments import bind, with_attachments
from smol.errors import InvalidArgument, NotFound, SmolError, Unavailable, nearest
from smol.protocol import PROTOCOL_VERSION, Buffer, decode_payload
from smol.protocol.messages import Hello, Message, OperationDescription, UnitDescription, Welcome
from smol.transport import Caller, Channel, connect
from smol.transport.inbox import Inbox, Reply
from smol.types import Json

__all__ = ["Client", "Event", "OperationProxy", "UnitProxy"]

DEFAULT_SECONDS = 60.0
_FOREVER_SECONDS = 3e8
_HANDSHAKE_SECONDS = 10.0


class Event(msgspec.Struct, frozen=True):
    """Something that happened. dropped: how many events were lost just before it."""

    topic: str
    data: Json
    dropped: int = 0


class Client:
    """Calls operations of a host's units.

    `await client.detect.image("street.jpg")` and `await client.call("detect.image", {...})` are the same,
    but that the former knows the operation: it takes positions, and paths where an attachment is wanted.
    """

    def __init__(self, within_seconds: float = DEFAULT_SECONDS) -> None:
        self._within_seconds = within_seconds
        self._keep_alive_ms: int | None = None
        self._channel: Channel | None = None
        self._caller: Caller | None = None
        self._welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._units: dict[str, UnitDescription] = {}

    @classmethod
    async def open(cls, socket: Path, name: str = "python") -> Client:
        """Connect. Raises Unavailable when no host listens at `socket`."""
        client = cls()
        channel = client._channel = await connect(socket, client)
        client._caller = Caller(channel)
        try:
            channel.try_send(Hello(PROTOCOL_VERSION, name))
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await client._welcomed
        except TimeoutError:
            channel.abort()
            raise Unavailable(f"the host at {socket} does not answer") from None
        except BaseException:
            channel.abort()
            raise
        return client

    @property
    def connected(self) -> bool:
        """Whether calls can be made."""
        return self._channel is not None and not self._channel.closing

    def within(self, seconds: float) -> Client:
        """The same connection, with another deadline for each call."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _within_seconds=seconds)
        return other

    def keeping(self, seconds: float) -> Client:
        """The same connection, whose calls leave their unit loaded for so long; below 0: while there is room.

        Raises InvalidArgument when that is no number of seconds.
        """
        if math.isnan(seconds):
            raise InvalidArgument("keep a unit for a number of seconds; nan is none")
        other = object.__new__(type(self))
        keep_ms = -1 if seconds < 0 or seconds > _FOREVER_SECONDS else round(1000 * seconds)
        other.__dict__.update(self.__dict__, _keep_alive_ms=keep_ms)
        return other

    async def call(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        trace: str = "",
        on_progress: Callable[[float, str], None] | None = None,
    ) -> Json:
        """Call an operation. Returns its result as plain JSON types, with `Attachment` for attachments.

        key: idempotency key. trace: W3C traceparent. Raises the SmolError that the operation answers.
        """
        reply = await self.reply(operation, arguments, key=key, trace=trace, on_progress=on_progress)
        return decode_payload(reply.value, reply.attachments)

    async def reply(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        trace: str = "",
        on_progress: Callable[[float, str], None] | None = None,
    ) -> Reply:
        """`call`, with the result's JSON as it came, for those who only hand it on."""
        return await self._connected().call(
            operation,
            _ready(arguments),
            deadline_seconds=self._within_seconds,
            key=key,
            trace=trace,
            keep_alive_ms=self._keep_alive_ms,
            on_progress=on_progress,
        )

    async def stream(
        self, operation: str, arguments: Mapping[str, Any] | None = None, *, trace: str = ""
    ) -> AsyncGenerator[Json]:
        """Call a streaming operation and iterate over its items."""
        async with self.replies(operation, arguments, trace=trace) as items:
            async for item in items:
                yield decode_payload(item.value, item.attachments)

    def replies(
        self, operation: str, arguments: Mapping[str, Any] | None = None, *, key: str = "", trace: str = ""
    ) -> Inbox[Reply]:
        """`stream`, with the JSON of the items as it came. To be closed."""
        return self._connected().stream(
            operation,
            _ready(arguments),
            deadline_seconds=self._within_seconds,
            key=key,
            trace=trace,
            keep_alive_ms=self._keep_alive_ms,
        )

    async def events(self, topic: str) -> AsyncGenerator[Event]:
        """Follow the events of a topic; `*` at its end stands for any rest."""
        async with await self._connected().subscribe(topic) as subscription:
            async for occurrence in subscription:
                yield Event(occurrence.topic, decode_payload(occurrence.data, ()), occurrence.dropped)

    async def describe(self, unit: str) -> UnitDescription:
        """What a unit offers."""
        if unit not in self._units:
            found = await self.call("lifecycle.describe", {"unit": unit})
            self._units[unit] = msgspec.convert(found, UnitDescription)
        return self._units[unit]

    async def operation(self, unit: str, name: str) -> OperationDescription:
        """One operation of a unit. Raises NotFound, with the nearest name."""
        operations = {operation.name: operation for operation in (await self.describe(unit)).operations}
        if name not in operations:
            known = ", ".join(operations)
            raise NotFound(f"unit {unit!r} has no operation {name!r}{nearest(name, operations)}; known: {known}")
        return operations[name]

    def __getattr__(self, unit: str) -> UnitProxy:
        if unit.startswith("_"):
            raise AttributeError(unit)
        return UnitProxy(self, unit)

    async def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            self._channel.close()
            await self._channel.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _connected(self) -> Caller:
        if self._caller is None:
            raise Unavailable("the client is not connected")
        return self._caller

    # Channel handler ----------------------------------------------------------------------------

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if isinstance(message, Welcome):
            if not self._welcomed.done():
                self._welcomed.set_result(message)
        elif self._caller is not None:
            self._caller.handle(message, body)

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        reason = error or Unavailable("the host hung up")
        if not self._welcomed.done():
            self._welcomed.set_exception(reason)
        if self._caller is not None:
            self._caller.fail(reason)


def _ready(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments with bytes and files as attachments."""
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise InvalidArgument(f"arguments are an object, by name, not {type(arguments).__name__}")
    return {name: with_attachments(value, {}) for name, value in arguments.items()}


class UnitProxy:
    """A unit; its attributes are its operations."""

    def __init__(self, client: Client, unit: str) -> None:
        self._client = client
        self._unit = unit

    def __getattr__(self, name: str) -> OperationProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return OperationProxy(self._client, self._unit, name)


class OperationProxy:
    """An operation: call it, or `stream` it."""

    def __init__(self, client: Client, unit: str, name: str) -> None:
        self._client = client
        self._unit = unit
        self._name = name

    async def __call__(self, *positional: Any, **named: Any) -> Json:
        return await self._client.call(f"{self._unit}.{self._name}", await self._bind(positional, named))

    async def stream(self, *positional: Any, **named: Any) -> AsyncGenerator[Json]:
        """Call a streaming operation and iterate over its items."""
        arguments = await self._bind(positional, named)
        async with contextlib.aclosing(self._client.stream(f"{self._unit}.{self._name}", arguments)) as items:
            async for item in items:
                yield item

    async def _bind(self, positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        operation = await self._client.operation(self._unit, self._name)
        return bind(f"{self._unit}.{self._name}", operation, positional, named)
