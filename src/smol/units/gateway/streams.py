"""Streams over HTTP: as server-sent events or as lines of JSON, with a sign of life when nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Generic, Literal, TypeAlias, TypeVar

from smol.units.gateway.requests import ClientGone, Receive, Send, while_connected

__all__ = ["Format", "Peeked", "as_event", "as_line", "send_stream", "stream_format"]

Format: TypeAlias = Literal["text/event-stream", "application/x-ndjson"]
T = TypeVar("T")

BEAT_SECONDS = 15.0
PEEK_SECONDS = 0.25
"""How long a stream may take to fail with a status of HTTP; later, the failure is part of the stream."""


def stream_format(accept: bytes) -> Format:
    """What the client wants a stream to look like: events, unless it asks for lines."""
    return "application/x-ndjson" if b"ndjson" in accept or b"jsonl" in accept else "text/event-stream"


def as_event(data: bytes, event: str = "") -> bytes:
    """One server-sent event. Line breaks in JSON are white space only."""
    flat = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return (b"event: %s\n" % event.encode() if event else b"") + b"data: %s\n\n" % flat


def as_line(data: bytes) -> bytes:
    """One line of JSON."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


class Peeked(Generic[T]):
    """Items of which the first has been asked for already, and which beat when none comes."""

    def __init__(self, items: AsyncGenerator[T]) -> None:
        self._items = items
        self._next = self._ask()

    async def peek(self) -> None:
        """Wait a moment for the first item. Raises what the stream failed with, if it did."""
        try:
            await asyncio.wait([self._next], timeout=PEEK_SECONDS)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        error = self._next.exception() if self._next.done() else None
        if error is not None and not isinstance(error, _End):
            await self._items.aclose()
            raise error

    async def follow(self, beat_seconds: float = BEAT_SECONDS) -> AsyncGenerator[T | None]:
        """Each item; None when nothing came for a while."""
        try:
            while True:
                await asyncio.wait([self._next], timeout=beat_seconds)
                if not self._next.done():
                    yield None
                    continue
                try:
                    item = self._next.result()
                except _End:
                    return
                yield item
                self._next = self._ask()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop, whatever comes."""
        self._next.cancel()
        await asyncio.gather(self._next, return_exceptions=True)
        await self._items.aclose()

    def _ask(self) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(self._following())

    async def _following(self) -> T:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            raise _End from None


class _End(Exception):
    """The items are over. A task can't end with StopAsyncIteration in peace."""


async def send_stream(
    send: Send,
    receive: Receive,
    chunks: AsyncGenerator[bytes],
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send chunks as they come, until they end or the client hangs up."""
    fields = [(b"content-type", media_type.encode()), (b"x-accel-buffering", b"no")]
    fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def pour() -> None:
        async with contextlib.aclosing(chunks) as stream:
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    pouring: Awaitable[None] = pour()
    with contextlib.suppress(ClientGone):
        await while_connected(pouring, receive)
