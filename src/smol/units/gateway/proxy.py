"""`/mcp`: handed on to the worker that speaks the Model Context Protocol, which asking for it starts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import httpx2
import msgspec

from smol.errors import SmolError, Unavailable
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit, send_bytes, while_connected
from smol.units.gateway.streams import send_stream

__all__ = ["McpProxy"]

_THERE = (b"accept", b"content-type", b"last-event-id")
_START_SECONDS = 30.0


class McpProxy:
    """The ASGI application at `/mcp`."""

    def __init__(self, host: HostAccess, bodies: Bodies) -> None:
        self._host = host
        self._bodies = bodies
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def close(self) -> None:
        """Hang up."""
        for client in self._clients.values():
            await client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        body = await self._bodies.read(visit, receive)
        address = await self._host.call("mcp.address", deadline_seconds=_START_SECONDS)
        client = self._clients.get(address)
        if client is None:
            transport = httpx2.AsyncHTTPTransport(uds=address)
            client = self._clients[address] = httpx2.AsyncClient(transport=transport, timeout=None)
        request = client.build_request(scope["method"], "http://mcp/mcp", content=body, headers=_headers(visit))
        try:
            response = await while_connected(client.send(request, stream=True), receive)
        except httpx2.TransportError:
            raise Unavailable("the worker for the Model Context Protocol went away", retry_after_ms=500) from None
        async with contextlib.aclosing(response):
            await _hand_on(response, receive, send)


async def _hand_on(response: httpx2.Response, receive: Receive, send: Send) -> None:
    kind = response.headers.get("content-type", "application/json")
    headers = {
        name: value for name, value in response.headers.items() if name.startswith("mcp-") or name == "allow"
    }
    if not kind.startswith("text/event-stream"):
        data = await while_connected(response.aread(), receive)
        await send_bytes(send, response.status_code, data, kind, headers)
        return

    async def chunks() -> AsyncGenerator[bytes]:
        with contextlib.suppress(SmolError, httpx2.HTTPError):
            async for chunk in response.aiter_bytes():
                yield chunk

    await send_stream(send, receive, chunks(), kind, headers)


def _headers(visit: Visit) -> dict[str, str]:
    """Headers of the protocol, and what the client's key covers; nothing else goes through."""
    given = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in visit.headers.items()
        if name in _THERE or name.startswith(b"mcp-")
    }
    return {**given, "x-smol-allow": msgspec.json.encode(visit.covered).decode()}
