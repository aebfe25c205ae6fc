"""The least a web application can do: Starlette answers JSON with the JSON it was sent."""

from __future__ import annotations

import sys

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["app"]


async def echo(request: Request) -> Response:
    """Answer what was sent."""
    value = msgspec.json.decode(await request.body())
    return Response(msgspec.json.encode(value), media_type="application/json")


app = Starlette(routes=[Route("/echo", echo, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, uds=sys.argv[1], loop="uvloop", http="httptools", access_log=False, log_level="error")
