"""What has come in for a stream or a subscription and was not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import msgspec

from smol.errors import Cancelled, SmolError
from smol.types import Attachment

__all__ = ["Inbox", "Occurrence", "Reply"]


@dataclass(slots=True)
class Reply:
    """A result, or one item of a stream: JSON and the attachments it refers to."""

    value: msgspec.Raw
    attachments: list[Attachment]


@dataclass(slots=True)
class Occurrence:
    """An event. dropped: how many were lost just before it."""

    topic: str
    data: msgspec.Raw
    dropped: int


T = TypeVar("T", Reply, Occurrence)


class Inbox(Generic[T]):
    """Entries in order, then the end or an error. An async iterator; `aclose` it to stop early.

    on_taken: told after each entry taken. on_close: told once, when nobody wants more.
    capacity: how many occurrences are kept for a reader that lags: then the oldest goes, and the next
    one counts it as dropped. Replies are bounded by the credit that was given, and never dropped.
    """

    def __init__(
        self, on_taken: Callable[[], None], on_close: Callable[[], None], capacity: int | None = None
    ) -> None:
        self._entries: deque[T] = deque()
        self._capacity = capacity
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: SmolError | None = None
        self._on_taken = on_taken
        self._on_close = on_close

    def put(self, entry: T) -> None:
        """An entry came in."""
        self._entries.append(entry)
        if self._capacity is not None and len(self._entries) > self._capacity:
            lost, oldest = self._entries.popleft(), self._entries[0]
            if isinstance(lost, Occurrence) and isinstance(oldest, Occurrence):
                oldest.dropped += lost.dropped + 1
        self._arrived.set()

    def finish(self, error: SmolError | None) -> None:
        """Nothing more will come; `error` is raised once what came before is taken."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._entries:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        entry = self._entries.popleft()
        if not self._ended:
            self._on_taken()
        return entry

    async def aclose(self) -> None:
        """Stop: the other side is told, what came in is dropped."""
        self._entries.clear()
        if not self._ended:
            self.finish(Cancelled("the stream was closed by its reader"))
            self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
