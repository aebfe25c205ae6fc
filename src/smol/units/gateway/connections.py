"""Connections that are bounded: time for headers, their number and size, and how many there are.

Covers what uvicorn leaves open, before a request exists. Bodies are `requests`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedServer", "Bounds", "bounded_protocol"]

LARGEST_URL_BYTES = 8192
LARGEST_HEADERS_BYTES = 32 * 1024
MOST_HEADERS = 100


class Bounds(msgspec.Struct, frozen=True):
    """How long headers may take, and how many connections there may be."""

    header_seconds: float
    connections: int


class BoundedServer(Server):
    """Leaves signals alone: a worker is told by its host when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


class _Protocol(HttpToolsProtocol):
    bounds: Bounds

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._refusal = (400, "the request is not HTTP/1.1 as it should be")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        self.app_state = {"unix": connection is not None and connection.family == socket.AF_UNIX}
        if len(self.connections) > self.bounds.connections:
            self._refuse(503, "there are too many connections: come back in a moment")
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._timer is None:
            self._arm()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > LARGEST_URL_BYTES:
            self._stop(414, f"the URL is longer than {LARGEST_URL_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > LARGEST_HEADERS_BYTES or len(self.headers) >= MOST_HEADERS:
            self._stop(431, f"more than {MOST_HEADERS} headers, or {LARGEST_HEADERS_BYTES} bytes of them")
        super().on_header(name, value.strip(b" \t"))  # White space around a value is none of it (RFC 9110, 5.5).

    def on_headers_complete(self) -> None:
        self._disarm()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._stop(400, "a request needs exactly one Host header")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed."""
        self._refuse(*self._refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """Upgrades are optional: the request is answered as it stands."""

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.bounds.header_seconds, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._refuse(408, f"the headers did not come within {self.bounds.header_seconds:g} s")

    def _stop(self, status: int, message: str) -> None:
        """End parsing: the parser turns this into an error, which is answered by `send_400_response`."""
        self._refusal = status, message
        raise ValueError(message)

    def _refuse(self, status: int, message: str) -> None:
        self._disarm()
        if self.transport.is_closing():
            return
        code = "RESOURCE_EXHAUSTED" if status in (431, 503) else "INVALID_ARGUMENT"
        body = msgspec.json.encode(
            {
                "type": f"urn:smol:error:{code.lower()}",
                "title": "Refused",
                "status": status,
                "detail": message,
                "code": code,
            }
        )
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded_protocol(bounds: Bounds) -> type[HttpToolsProtocol]:
    """A class of connections within `bounds`."""
    return type("BoundedProtocol", (_Protocol,), {"bounds": bounds})
