from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from smol.errors import SmolError
from smol.protocol import Buffer, Limits
from smol.protocol.messages import Hello, Message, Welcome
from smol.transport import Caller, Channel, connect_in_memory


class Side:
    """A handler that notes what it hears, and passes answers to its caller."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.bodies: list[bytes] = []
        self.ended: list[SmolError | None] = []
        self.caller: Caller | None = None
        self.channel: Channel | None = None
        self.on_call: Callable[[Channel, Message], None] | None = None

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if self.caller is not None and self.caller.handle(message, body):
            return
        self.heard.append(message)
        self.bodies.append(bytes(body))
        if self.on_call is not None:
            self.on_call(channel, message)

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        self.ended.append(error)
        if self.caller is not None and error is not None:
            self.caller.fail(error)


async def settle() -> None:
    """Let everything happen that is under way in memory."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def joined(
    limits: Limits | None = None, connect: Callable[..., Any] = connect_in_memory
) -> AsyncIterator[tuple[Side, Side, Channel, Channel]]:
    """A host and a peer whose connection is open."""
    host, peer = Side(), Side()
    host_end, peer_end = connect(host, peer, limits)
    host.channel, peer.channel = host_end, peer_end
    peer_end.send(Hello(protocol=1, limits=limits or Limits()))
    await settle()
    host_end.send(Welcome(protocol=1, limits=limits or Limits()))
    await settle()
    peer.caller, host.caller = Caller(peer_end), Caller(host_end)
    host.heard.clear()
    host.bodies.clear()
    peer.heard.clear()
    try:
        yield host, peer, host_end, peer_end
    finally:
        host_end.close()
        peer_end.close()
        await host_end.wait_closed()
        await peer_end.wait_closed()


@pytest.fixture
def side() -> type[Side]:
    return Side


@pytest.fixture
def join() -> Callable[..., Any]:
    return joined


@pytest.fixture
def settled() -> Callable[[], Awaitable[None]]:
    return settle
