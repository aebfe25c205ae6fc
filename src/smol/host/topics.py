"""Events: who subscribed to what, and what waits for those that do not keep up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from smol.errors import InvalidArgument, ResourceExhausted
from smol.host.connection import Connection
from smol.protocol.messages import Event
from smol.types import Json

__all__ = ["QUEUE", "Topics"]

QUEUE = 256
"""Events that wait for one subscriber; beyond them the oldest are dropped, and counted."""
_QUEUE_BYTES = 1 << 20
_SUBSCRIPTIONS = 64


class _Subscription:
    __slots__ = ("connection", "dropped", "flushing", "held_bytes", "id", "pattern", "queue",
                 "total_dropped")  # fmt: skip

    def __init__(self, connection: Connection, call_id: int, pattern: str) -> None:
        self.connection = connection
        self.id = call_id
        self.pattern = pattern
        self.queue: deque[tuple[str, msgspec.Raw]] = deque()
        self.held_bytes = 0
        self.dropped = 0
        self.total_dropped = 0
        self.flushing: asyncio.Task[None] | None = None

    def wants(self, topic: str) -> bool:
        if self.pattern.endswith("*"):
            return topic.startswith(self.pattern[:-1])
        return topic == self.pattern

    def offer(self, topic: str, data: msgspec.Raw) -> None:
        self.queue.append((topic, data))
        self.held_bytes += len(memoryview(data))
        while len(self.queue) > QUEUE or (self.held_bytes > _QUEUE_BYTES and len(self.queue) > 1):
            self._take()
            self._drop()
        self.flush()

    def _take(self) -> tuple[str, msgspec.Raw]:
        topic, data = self.queue.popleft()
        self.held_bytes -= len(memoryview(data))
        return topic, data

    def _drop(self) -> None:
        self.dropped += 1
        self.total_dropped += 1

    def flush(self) -> None:
        channel = self.connection.channel
        assert channel is not None
        while self.queue and channel.writable and not channel.closed:
            topic, data = self._take()
            try:
                self.connection.send(Event(self.id, topic, data, self.dropped))
                self.dropped = 0
            except ResourceExhausted:  # Larger than this subscriber takes; who published is not to blame.
                self._drop()
        if self.queue and self.flushing is None and not channel.closed:
            self.flushing = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        assert self.connection.channel is not None
        await self.connection.channel.wait_writable()
        self.flushing = None
        self.flush()

    def close(self) -> None:
        if self.flushing is not None:
            self.flushing.cancel()


class Topics:
    """The subscriptions of all connections. Delivery is at most once."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str, Json], None]] = []
        """Told of each `announce`, in the host itself."""
        self._subscriptions: dict[tuple[Connection, int], _Subscription] = {}

    def subscribe(self, connection: Connection, call_id: int, pattern: str) -> None:
        """Raises InvalidArgument for a pattern that can match nothing, ResourceExhausted for too many."""
        if not pattern or "*" in pattern[:-1]:
            raise InvalidArgument(f"topic {pattern[:80]!r}: a name, or a beginning followed by one '*'")
        held = sum(1 for key in self._subscriptions if key[0] is connection)
        if held >= _SUBSCRIPTIONS:
            raise ResourceExhausted(f"{held} subscriptions on this connection: the limit is {_SUBSCRIPTIONS}")
        self._subscriptions[connection, call_id] = _Subscription(connection, call_id, pattern)

    def unsubscribe(self, connection: Connection, call_id: int) -> bool:
        """False when there was no such subscription."""
        subscription = self._subscriptions.pop((connection, call_id), None)
        if subscription is not None:
            subscription.close()
        return subscription is not None

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        for key in [key for key in self._subscriptions if key[0] is connection]:
            self._subscriptions.pop(key).close()

    def publish(self, topic: str, data: msgspec.Raw) -> None:
        """Tell whoever subscribed."""
        for subscription in self._subscriptions.values():
            if subscription.wants(topic):
                subscription.offer(topic, data)

    def announce(self, topic: str, data: Json) -> None:
        """Publish a plain value."""
        for listener in self.listeners:
            listener(topic, data)
        if self._subscriptions:
            self.publish(topic, msgspec.Raw(msgspec.json.encode(data)))
