"""Events for many readers: one subscription at the host for each topic, however many pages watch it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable

from smol.client.session import Event
from smol.errors import ResourceExhausted, SmolError

__all__ = ["Hubs"]

_KEPT = 256
"""Events for a reader that lags; then the oldest go, and are counted."""
MOST_TOPICS = 48
"""A little below what the host takes of one client."""


class _Reader:
    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.arrived = asyncio.Event()
        self.dropped = 0
        self.error: SmolError | None = None

    def put(self, event: Event) -> None:
        if len(self.events) == _KEPT:
            self.dropped += self.events.popleft().dropped + 1
        self.events.append(event)
        self.arrived.set()


class Hubs:
    """Topics that somebody reads. subscribe: follows a topic at the host."""

    def __init__(self, subscribe: Callable[[str], AsyncGenerator[Event]]) -> None:
        self._subscribe = subscribe
        self._readers: dict[str, set[_Reader]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def read(self, topic: str) -> AsyncGenerator[Event]:
        """Events of a topic from now on. Raises ResourceExhausted for too many different topics."""
        readers = self._readers.get(topic)
        if readers is None:
            if len(self._readers) >= MOST_TOPICS:
                raise ResourceExhausted(f"{MOST_TOPICS} topics are watched already", retry_after_ms=5000)
            readers = self._readers[topic] = set()
            self._tasks[topic] = asyncio.get_running_loop().create_task(self._follow(topic, readers))
        reader = _Reader()
        readers.add(reader)
        try:
            while True:
                while reader.events:
                    event, dropped = reader.events.popleft(), reader.dropped
                    reader.dropped = 0
                    yield Event(event.topic, event.data, event.dropped + dropped)
                if reader.error is not None:
                    raise reader.error
                reader.arrived.clear()
                await reader.arrived.wait()
        finally:
            readers.discard(reader)
            if not readers:
                self._end(topic, readers)

    async def close(self) -> None:
        """Stop following anything."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, topic: str, readers: set[_Reader]) -> None:
        if self._readers.get(topic) is readers:
            del self._readers[topic]
            self._tasks.pop(topic).cancel()

    async def _follow(self, topic: str, readers: set[_Reader]) -> None:
        try:
            async with contextlib.aclosing(self._subscribe(topic)) as events:
                async for event in events:
                    for reader in readers:
                        reader.put(event)
        except SmolError as error:
            for reader in readers:
                reader.error = error
                reader.arrived.set()
