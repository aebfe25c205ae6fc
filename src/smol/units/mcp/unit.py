"""The unit `mcp`: serves the protocol on a Unix socket that the gateway hands requests to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
from uvicorn import Config

from smol.errors import FailedPrecondition, InvalidArgument
from smol.locations import locate
from smol.sdk import Context, Unit, operation
from smol.units.gateway.connections import BoundedServer
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.settings import OfferSettings

__all__ = ["Mcp", "load_server", "read_settings"]

_DEADLINE_SECONDS = 300.0
_BACKLOG = 128


class Mcp(Unit):
    """Model Context Protocol: operations as tools for agents, at /mcp of the gateway."""

    def __init__(self) -> None:
        self._settings = OfferSettings()
        self._host: HostAccess | None = None
        self._server: Any = None
        self._path = Path()
        self._listener: socket.socket | None = None

    async def provision(self, context: Context) -> None:
        """Load the SDK. Raises FailedPrecondition when it is not installed."""
        self._settings = read_settings(dict(context.settings))
        kind = load_server()
        host_socket = locate().socket
        self._host = HostAccess(host_socket, _DEADLINE_SECONDS, _DEADLINE_SECONDS)
        await self._host.open()
        self._server = kind(self._host, self._settings)
        self._path = host_socket.with_name("mcp.sock")
        self._listener = _listen_at(self._path)
        for name in ("uvicorn.error", "mcp"):
            logging.getLogger(name).setLevel(logging.WARNING)

    async def serve(self, context: Context) -> None:
        """Answer requests until the worker ends."""
        assert self._listener is not None
        manager = self._server.http()
        config = Config(
            manager.asgi_app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = BoundedServer(config)
        async with manager.run():
            serving = asyncio.get_running_loop().create_task(server.serve([self._listener]))
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = server.force_exit = True
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    async def close(self) -> None:
        """Hang up."""
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._host is not None:
            await self._host.close()

    @operation(idempotent=True)
    async def address(self) -> str:
        """Tell at which Unix socket the protocol is served; asking starts it."""
        return str(self._path)


def read_settings(table: dict[str, Any]) -> OfferSettings:
    """The unit's settings. Raises InvalidArgument."""
    try:
        return msgspec.convert(table, OfferSettings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the settings of unit 'mcp' are wrong: {error}") from None


def load_server() -> Any:
    """The class of the server. Raises FailedPrecondition when its SDK is not installed."""
    try:
        return importlib.import_module("smol.units.mcp.server").McpServer
    except ImportError as error:
        raise FailedPrecondition(
            f"the Model Context Protocol needs its SDK ({error}): pip install 'smol[mcp]'"
        ) from None


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener
