"""Unix sockets and socket pairs as channels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from smol.errors import AlreadyExists, InvalidArgument, Unavailable
from smol.protocol import Limits, Role
from smol.transport.channel import Channel, Handler

__all__ = ["SOCKET_PATH_BYTES", "connect", "from_socket", "listen"]

SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux (sun_path less its NUL)."""


async def connect(path: Path, handler: Handler, limits: Limits | None = None) -> Channel:
    """Connect to a host's socket. Raises Unavailable when nobody listens there."""
    loop = asyncio.get_running_loop()
    try:
        _, channel = await loop.create_unix_connection(lambda: Channel(Role.PEER, handler, limits), str(path))
    except OSError as error:
        raise Unavailable(
            f"no host listens at {path} ({error.strerror or error}): start one with 'smol serve'"
        ) from None
    return channel


async def from_socket(
    connection: socket.socket, role: Role, handler: Handler, limits: Limits | None = None
) -> Channel:
    """Speak over a connected socket, which the channel then owns."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_unix_connection(lambda: Channel(role, handler, limits), sock=connection)
    return channel


async def listen(path: Path, accept: Callable[[], Channel]) -> asyncio.Server:
    """Listen on a socket file of mode 0600; `accept` makes the channel of each connection.

    A socket file that a dead host left behind is replaced. Raises AlreadyExists when a live host
    listens there, InvalidArgument when the path is too long.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise InvalidArgument(
            f"socket path of {len(os.fsencode(path))} bytes, at most {SOCKET_PATH_BYTES}: {path}"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _answers(path):
        raise AlreadyExists(f"a host is already listening at {path}: stop it, or set another socket")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    mask = os.umask(0o177)
    try:
        return await asyncio.get_running_loop().create_unix_server(accept, str(path))
    finally:
        os.umask(mask)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
