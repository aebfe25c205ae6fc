"""One request: who asks, its headers, its body within bounds, and its end when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Mapping, MutableMapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from smol.errors import InvalidArgument, PermissionDenied, ResourceExhausted
from smol.sizes import format_bytes
from smol.units.gateway.keys import Key
from smol.units.gateway.problems import Refusal, Style

__all__ = [
    "Bodies",
    "ClientGone",
    "Receive",
    "Scope",
    "Send",
    "Visit",
    "decode_json",
    "send_bytes",
    "while_connected",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Any
Send: TypeAlias = Any
T = TypeVar("T")

_TRACE = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HELD_RETRY_MS = 500


class ClientGone(Exception):
    """The client hung up: nobody waits for an answer."""


class Visit:
    """A request as the door let it in. key: of the client, or None where none is needed."""

    __slots__ = ("headers", "held_bytes", "key", "request_id", "style", "trace", "unix")

    def __init__(self, headers: Mapping[bytes, bytes], request_id: str, style: Style, unix: bool) -> None:
        self.headers = headers
        self.request_id = request_id
        self.style = style
        self.unix = unix
        self.key: Key | None = None
        self.held_bytes = 0
        trace = headers.get(b"traceparent", b"")
        self.trace = trace.decode() if _TRACE.fullmatch(trace) else ""

    @staticmethod
    def requested_id(headers: Mapping[bytes, bytes]) -> str | None:
        """The id that the client gave its request, if it is one."""
        given = headers.get(b"x-request-id", b"")
        return given.decode() if _ID.fullmatch(given) else None

    def check_allowed(self, operation: str) -> None:
        """Raises PermissionDenied when this client's key does not cover an operation."""
        if self.key is not None and not self.key.allows(operation):
            raise PermissionDenied(
                f"the key {self.key.name!r} does not allow {operation}; it allows {', '.join(self.key.allow)}"
            )

    @property
    def covered(self) -> tuple[str, ...]:
        """Patterns of what this client may call: all, where no key is needed."""
        return self.key.allow if self.key is not None else ("*",)

    @property
    def owner(self) -> str:
        """Whose it is what this client keeps here: the name of its key, empty where none is needed."""
        return self.key.name if self.key is not None else ""

    @property
    def media_type(self) -> bytes:
        """Of the body, without parameters."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    def deadline_seconds(self) -> float | None:
        """What the client allows by `x-deadline-seconds`. Raises InvalidArgument."""
        given = self.headers.get(b"x-deadline-seconds")
        if given is None:
            return None
        try:
            seconds = float(given)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 86_400:
            raise InvalidArgument("x-deadline-seconds must be a number of seconds above 0, at most 86400")
        return seconds


class Bodies:
    """Reads bodies: each within a size and a time, all of them within what may be held at once."""

    def __init__(self, largest_bytes: int, held_bytes: int, seconds: float) -> None:
        self._largest_bytes = largest_bytes
        self._most_held_bytes = held_bytes
        self._seconds = seconds
        self._held_bytes = 0

    async def read(self, visit: Visit, receive: Receive) -> bytes:
        """The whole body. Raises Refusal 413 without reading more, 408 when it comes too slowly."""
        held = []
        async with contextlib.aclosing(self.pieces(visit, receive)) as pieces:
            async for piece in pieces:
                self.hold(visit, len(piece))
                held.append(piece)
        return b"".join(held)

    async def pieces(self, visit: Visit, receive: Receive) -> AsyncGenerator[bytes]:
        """The body as it comes, none of it held. Raises as `read`."""
        announced = visit.headers.get(b"content-length")
        if announced is not None and int(announced) > self._largest_bytes:
            raise self._too_large()
        until = asyncio.get_running_loop().time() + self._seconds
        came_bytes = 0
        while True:
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refusal(
                    408,
                    f"the body did not come within {self._seconds:g} s",
                    code="DEADLINE_EXCEEDED",
                    headers={"connection": "close"},
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            came_bytes += len(piece)
            if came_bytes > self._largest_bytes:
                raise self._too_large()
            yield piece
            if not message.get("more_body"):
                return

    def hold(self, visit: Visit, count_bytes: int) -> None:
        """So many bytes more are held for a request. Raises ResourceExhausted when all requests hold too much."""
        self._held_bytes += count_bytes
        visit.held_bytes += count_bytes
        if self._held_bytes > self._most_held_bytes:
            raise ResourceExhausted(
                "the bodies of other requests take all the room there is: come back in a moment",
                retry_after_ms=HELD_RETRY_MS,
            )

    def release(self, visit: Visit) -> None:
        """The request has ended, and its body is let go."""
        self._held_bytes -= visit.held_bytes
        visit.held_bytes = 0

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the body is larger than {format_bytes(self._largest_bytes)} (max_body of [gateway])",
            code="RESOURCE_EXHAUSTED",
            headers={"connection": "close"},
        )


def decode_json(body: bytes, kind: Any = Any) -> Any:
    """The JSON in a body. Raises Refusal 400, with what is wrong and where."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        path = str(error).partition(" - at `$")[2].strip(".`")
        raise Refusal(400, f"the body is not the JSON it should be: {error}", param=path or None) from None


async def while_connected(work: Awaitable[T], receive: Receive) -> T:
    """Wait for `work`, which is cancelled when the client hangs up. Raises ClientGone then."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            task.uncancel()
            raise ClientGone from None
        raise
    finally:
        watching.cancel()


async def send_bytes(
    send: Send, status: int, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
) -> None:
    """A whole answer."""
    fields = [(b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % len(body))]
    fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
