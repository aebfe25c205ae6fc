"""The gateway's way to the host: connections of the client, and what the units are, kept until it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from smol.client import Client
from smol.client.session import Event
from smol.errors import NotFound, SmolError, nearest
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.transport.inbox import Inbox, Reply
from smol.types import Json
from smol.units.gateway.hubs import Hubs

__all__ = ["HostAccess"]

_CALLS_PER_CONNECTION = 200
"""The host takes 256 of one client; a little below, so that none is refused for it."""


class _Connection:
    """A client and how many calls it carries."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.busy = 0


class HostAccess:
    """Calls through as many connections as the calls at once need."""

    def __init__(self, socket: Path, deadline_seconds: float, stream_seconds: float) -> None:
        self._socket = socket
        self._deadline_seconds = deadline_seconds
        self._stream_seconds = stream_seconds
        self._connections: list[_Connection] = []
        self._described: dict[str, dict[str, OperationDescription]] = {}
        self._summaries: dict[str, UnitDescription] = {}
        self._opening = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._hubs = Hubs(self._subscribe)

    async def open(self) -> None:
        """Connect, and notice from now on when units change."""
        await self._connection()
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Hang up."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._hubs.close()
        for connection in self._connections:
            await connection.client.close()

    async def reply(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        deadline_seconds: float | None = None,
        trace: str = "",
        key: str = "",
        on_progress: Callable[[float, str], None] | None = None,
    ) -> Reply:
        """Call an operation; the result's JSON stays as it came."""
        with self._lease(await self._connection()) as client:
            bound = client.within(deadline_seconds or self._deadline_seconds)
            return await bound.reply(operation, arguments, trace=trace, key=key, on_progress=on_progress)

    async def call(
        self,
        operation: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline_seconds: float | None = None,
        trace: str = "",
    ) -> Json:
        """Call an operation."""
        with self._lease(await self._connection()) as client:
            bound = client.within(deadline_seconds or self._deadline_seconds)
            return await bound.call(operation, arguments, trace=trace)

    async def replies(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        deadline_seconds: float | None = None,
        trace: str = "",
    ) -> AsyncGenerator[Reply]:
        """Call a streaming operation."""
        with self._lease(await self._connection()) as client:
            bound = client.within(deadline_seconds or self._stream_seconds)
            inbox: Inbox[Reply]
            async with bound.replies(operation, arguments, trace=trace) as inbox:
                async for item in inbox:
                    yield item

    def events(self, topic: str) -> AsyncGenerator[Event]:
        """Events of a topic, from now on. Raises SmolError when the host refuses it."""
        return self._hubs.read(topic)

    async def _subscribe(self, topic: str) -> AsyncGenerator[Event]:
        with self._lease(await self._connection()) as client:
            async with contextlib.aclosing(client.events(topic)) as events:
                async for event in events:
                    yield event

    async def operation(self, unit: str, name: str) -> OperationDescription:
        """One operation of a unit. Raises NotFound, with the nearest name."""
        operations = self._described.get(unit)
        if operations is None:
            await self.describe(unit)
            operations = self._described.get(unit) or {}
        found = operations.get(name)
        if found is None:
            raise NotFound(
                f"unit {unit!r} has no operation {name!r}{nearest(name, operations)}; "
                f"known: {', '.join(operations)}"
            )
        return found

    async def describe(self, unit: str) -> UnitDescription:
        """What a unit offers."""
        if unit not in self._summaries:
            found = msgspec.convert(await self.call("lifecycle.describe", {"unit": unit}), UnitDescription)
            self._described[unit] = {operation.name: operation for operation in found.operations}
            self._summaries[unit] = found
        return self._summaries[unit]

    async def units(self) -> list[dict[str, Any]]:
        """All units with their states, broken ones included."""
        found: list[dict[str, Any]] = await self.call("lifecycle.units")
        return found

    async def describe_all(self) -> list[UnitDescription]:
        """What all units that can be described offer."""
        descriptions = []
        for entry in await self.units():
            with contextlib.suppress(SmolError):  # It says itself, in the list of units, what is wrong with it.
                if entry["kind"]:
                    descriptions.append(await self.describe(entry["name"]))
        return descriptions

    async def _connection(self) -> _Connection:
        """One with room; another is made when there is none."""
        for connection in self._connections:
            if connection.busy < _CALLS_PER_CONNECTION and connection.client.connected:
                return connection
        async with self._opening:
            for connection in self._connections:
                if connection.busy < _CALLS_PER_CONNECTION and connection.client.connected:
                    return connection
            self._connections = [known for known in self._connections if known.client.connected]
            fresh = _Connection(await Client.open(self._socket, "gateway"))
            self._connections.append(fresh)
            return fresh

    @contextlib.contextmanager
    def _lease(self, connection: _Connection) -> Iterator[Client]:
        connection.busy += 1
        try:
            yield connection.client
        finally:
            connection.busy -= 1

    async def _follow(self) -> None:
        """Forget what a unit offered as soon as it changes."""
        async with contextlib.aclosing(self.events("host.unit")) as events:
            async for event in events:
                if event.dropped:
                    self._summaries.clear()
                    self._described.clear()
                self._summaries.pop(event.data["unit"], None)
                self._described.pop(event.data["unit"], None)
