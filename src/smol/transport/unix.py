"""Unix sockets and socket pairs as channels."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from smol.errors import AlreadyExists, InvalidArgument, Unavailable
from smol.protocol import Limits, Role
from smol.transport.channel import Channel, Handler

__all__ = ["connect", "from_socket", "listen"]


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
    listens there, InvalidArgument when something else than a socket is. The directory is the caller's to make.
    """
    if _answers(path):
        raise AlreadyExists(f"a host is already listening at {path}: stop it, or set another socket")
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise InvalidArgument(f"{path} is not a socket: it stays as it is, set another path")
        path.unlink()
    mask = os.umask(0o177)
    try:
        return await asyncio.get_running_loop().create_unix_server(accept, str(path))
    finally:
        os.umask(mask)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # Somebody listens, and is too busy to accept.
        except OSError:
            return False
    return True
