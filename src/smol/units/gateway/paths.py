"""A path with its methods, which refuses the others as every error is written; and what answers there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.routing import Route

from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Receive, Scope, Send

__all__ = ["Endpoint", "Handler", "Path"]

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class Endpoint:
    """A method as an ASGI application."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


class Path(Route):
    """A route that raises Refusal 405 for a method it does not have."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        methods = self.methods or set()
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            raise Refusal(
                405, f"{scope['path']} takes {allowed}, not {scope['method']}", headers={"allow": allowed}
            )
        await self.app(scope, receive, send)
