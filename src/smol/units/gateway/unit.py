"""The gateway: listens on TCP and on a Unix socket, beside the calls of its few operations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path

import msgspec
from uvicorn import Config

from smol.errors import FailedPrecondition
from smol.locations import locate
from smol.sdk import Context, Unit, operation
from smol.units.gateway.app import Application
from smol.units.gateway.connections import BoundedServer, Bounds, bounded_protocol
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.settings import Address, GatewaySettings, check_exposure, parse_settings

__all__ = ["Gateway", "Listening"]

_FINISH_SECONDS = 0.4
_FAREWELL_SECONDS = 0.4
"""For answers under way when the gateway is told to end, and for telling the others; a worker has one second."""
_BACKLOG = 512


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway can be reached. socket: path of the Unix socket. keys: how many there are."""

    url: str
    socket: str
    keys: int


class Gateway(Unit):
    """HTTP for every operation, and the APIs and pages that are made of it."""

    def __init__(self) -> None:
        self._settings = GatewaySettings()
        self._host: HostAccess | None = None
        self._keys = KeyFile(Path())
        self._sockets: list[socket.socket] = []
        self._path = Path()
        self._url = ""

    async def provision(self, context: Context) -> None:
        """Take the addresses. Raises FailedPrecondition when one is taken, or open to others without a key."""
        self._settings = parse_settings(dict(context.settings))
        self._keys = KeyFile(context.data_dir / "keys.json")
        check_exposure(self._settings, len(self._keys.all()))
        settings = self._settings
        host_socket = locate().socket
        self._host = HostAccess(host_socket, settings.deadline_seconds, settings.stream_seconds)
        await self._host.open()
        address = settings.address
        tcp = _listen_on(address)
        self._sockets.append(tcp)
        self._url = address.url(tcp.getsockname()[1])
        path = settings.socket or host_socket.with_name("http.sock")
        self._sockets.append(_listen_at(path))
        self._path = path
        for name in ("uvicorn.error", "httpx2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("uvicorn.access").disabled = True

    async def serve(self, context: Context) -> None:
        """Answer requests until the worker ends."""
        settings = self._settings
        assert self._host is not None
        application = Application(settings, self._host, self._keys, context.data_dir)
        server = BoundedServer(
            Config(
                application,
                http=bounded_protocol(Bounds(settings.header_seconds, settings.connections)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=max(1, int(settings.idle_seconds)),
                timeout_graceful_shutdown=1,
            )
        )
        context.log.info("open %s (Unix socket: %s)", self._url, self._path)
        serving = asyncio.get_running_loop().create_task(server.serve(self._sockets))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await asyncio.wait([serving], timeout=_FINISH_SECONDS)
            await self._host.close()  # What still runs ends with an error that says so.
            await asyncio.wait([serving], timeout=_FAREWELL_SECONDS)
            raise
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await application.close()

    async def close(self) -> None:
        """Give the addresses back, and hang up."""
        if self._host is not None:
            await self._host.close()
        for listener in self._sockets:
            listener.close()
        if self._path != Path():
            with contextlib.suppress(OSError):
                self._path.unlink()

    @operation(read_only=True)
    async def address(self) -> Listening:
        """Tell where the gateway can be reached."""
        return Listening(url=self._url, socket=str(self._path), keys=len(self._keys.all()))


def _listen_on(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise FailedPrecondition(
            f"can't listen at {address.host}:{address.port}: {error.strerror}; another program may have it: "
            "choose another with `listen` of [gateway]"
        ) from None
    return listener


def _listen_at(path: Path) -> socket.socket:
    """A Unix socket that only this user can open, from the moment it is there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise FailedPrecondition(f"can't listen at {path}: {error.strerror}: see `socket` of [gateway]") from None
    return listener
