"""The client for programs without an event loop: the same calls, which block.

A loop in a thread of its own does the work; nothing is written twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Self, TypeVar

from smol.client.session import Client, Event
from smol.errors import Unavailable
from smol.protocol.messages import UnitDescription
from smol.types import Json

__all__ = ["BlockingClient"]

T = TypeVar("T")


class BlockingClient:
    """Calls operations of a host's units, and waits for the answer. May be shared by threads."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Client]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smol-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(opening())
        except BaseException:
            self._end_loop()
            raise

    def call(self, operation: str, arguments: Mapping[str, Any] | None = None, *, key: str = "") -> Json:
        """See `Client.call`."""
        return self._wait(self._client.call(operation, arguments, key=key))

    def stream(self, operation: str, arguments: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """See `Client.stream`."""
        return self._iterate(self._client.stream(operation, arguments))

    def events(self, topic: str) -> Iterator[Event]:
        """See `Client.events`."""
        return self._iterate(self._client.events(topic))

    def describe(self, unit: str) -> UnitDescription:
        """See `Client.describe`."""
        return self._wait(self._client.describe(unit))

    def within(self, seconds: float) -> BlockingClient:
        """See `Client.within`."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _client=self._client.within(seconds))
        return other

    def keeping(self, seconds: float) -> BlockingClient:
        """See `Client.keeping`."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _client=self._client.keeping(seconds))
        return other

    def __getattr__(self, unit: str) -> _BlockingUnit:
        if unit.startswith("_"):
            raise AttributeError(unit)
        return _BlockingUnit(self, unit)

    def close(self) -> None:
        """Hang up."""
        if not self._loop.is_closed():
            try:
                self._wait(self._client.close())
            finally:
                self._end_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise Unavailable("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _iterate(self, items: Any) -> Iterator[Any]:
        done = object()

        async def following() -> Any:
            return await anext(items, done)

        try:
            while (item := self._wait(following())) is not done:
                yield item
        finally:
            if not self._loop.is_closed():
                self._wait(items.aclose())

    def _end_loop(self) -> None:
        asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_tasks() -> None:
    """Cancel what other threads still wait for, and iterators that were left half-way."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class _BlockingUnit:
    """A unit; its attributes are its operations."""

    def __init__(self, client: BlockingClient, unit: str) -> None:
        self._client = client
        self._unit = unit

    def __getattr__(self, name: str) -> _BlockingOperation:
        if name.startswith("_"):
            raise AttributeError(name)
        return _BlockingOperation(self._client, self._unit, name)


class _BlockingOperation:
    """An operation: call it, or `stream` it."""

    def __init__(self, client: BlockingClient, unit: str, name: str) -> None:
        self._client = client
        self._proxy = getattr(getattr(client._client, unit), name)

    def __call__(self, *positional: Any, **named: Any) -> Json:
        return self._client._wait(self._proxy(*positional, **named))

    def stream(self, *positional: Any, **named: Any) -> Iterator[Json]:
        """Call a streaming operation and iterate over its items."""
        return self._client._iterate(self._proxy.stream(*positional, **named))
