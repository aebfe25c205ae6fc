from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from smol.errors import AlreadyExists, InvalidArgument, Unavailable
from smol.protocol import Role
from smol.protocol.messages import AttachmentHeader, Call, Hello, Result, Welcome
from smol.transport import Caller, Channel, connect, from_socket, listen
from smol.types import Attachment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "smol.sock"


async def test_a_client_reaches_a_host_over_a_socket_file_of_its_user_only(path: Path, side: Any) -> None:
    host, peer = side(), side()
    server = await listen(path, lambda: Channel(Role.HOST, host))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    channel = await connect(path, peer)
    host.on_call = lambda end, message: end.send(
        Welcome(protocol=1) if isinstance(message, Hello) else Result(message.id, attachments=message.attachments),
        [] if isinstance(message, Hello) else [host.bodies[-1]],
    )
    channel.send(Hello(protocol=1))
    while not peer.heard:
        await asyncio.sleep(0)
    peer.caller = Caller(channel)
    for size in (0, 1, 70_000, 3_000_000):
        channel_reply = await peer.caller.call("a.b", {"x": Attachment(bytes(size))}, deadline_seconds=10)
        assert [len(item) for item in channel_reply.attachments] == [size]
    channel.close()
    await channel.wait_closed()
    server.close()
    await server.wait_closed()
    assert peer.ended == [None]


async def test_large_messages_that_cross_do_not_stop_each_other(side: Any) -> None:
    size = 8 << 20
    ours, theirs = socket.socketpair()
    host, peer = side(), side()
    host_end = await from_socket(ours, Role.HOST, host)
    peer_end = await from_socket(theirs, Role.PEER, peer)
    peer_end.send(Hello(protocol=1))
    while not host.heard:
        await asyncio.sleep(0)
    host_end.send(Welcome(protocol=1))
    while not peer.heard:
        await asyncio.sleep(0)
    for number in (1, 2, 3):
        for end in (host_end, peer_end):
            end.send(Call(id=number, operation="a.b", attachments=[AttachmentHeader(size)]), [bytes(size)])
    async with asyncio.timeout(20):
        while len(host.heard) < 4 or len(peer.heard) < 4:
            await asyncio.sleep(0)
    host_end.close()
    await host_end.wait_closed()
    await peer_end.wait_closed()


async def test_nobody_listening_is_told_with_what_to_do(path: Path, side: Any) -> None:
    with pytest.raises(Unavailable, match="smol serve"):
        await connect(path, side())


async def test_a_socket_file_that_a_dead_host_left_is_replaced(path: Path, side: Any) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await listen(path, lambda: Channel(Role.HOST, side()))
    server.close()
    await server.wait_closed()


async def test_the_socket_of_a_live_host_is_not_taken(path: Path, side: Any) -> None:
    server = await listen(path, lambda: Channel(Role.HOST, side()))
    with pytest.raises(AlreadyExists):
        await listen(path, lambda: Channel(Role.HOST, side()))
    await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


async def test_the_socket_of_a_host_too_busy_to_accept_is_not_taken(path: Path, side: Any) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(AlreadyExists):
            await listen(path, lambda: Channel(Role.HOST, side()))


async def test_a_file_that_is_no_socket_is_left_alone(path: Path, side: Any) -> None:
    path.write_text("a diary")
    with pytest.raises(InvalidArgument, match="not a socket"):
        await listen(path, lambda: Channel(Role.HOST, side()))
    assert path.read_text() == "a diary"
