from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from smol.errors import InvalidArgument, ResourceExhausted, Unavailable
from smol.protocol import Buffer, FrameDecoder, Limits, Role, State
from smol.protocol.messages import (
    AttachmentHeader,
    Call,
    Cancel,
    Drain,
    Error,
    Hello,
    Item,
    Ping,
    Pong,
    Result,
    Welcome,
    decode_message,
)
from smol.transport import Channel, connect_in_memory, from_socket

Join = Callable[..., Any]
Settle = Callable[[], Awaitable[None]]


class Stalled:
    """A transport to nobody who reads."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.writes = 0
        self.reading = True
        self.ended = ""

    def write(self, data: Buffer, /) -> None:
        self.held.append(bytes(data))
        self.writes += 1

    def writelines(self, list_of_data: list[Buffer], /) -> None:
        self.held.extend(map(bytes, list_of_data))
        self.writes += 1

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.held))

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


async def test_ping_is_answered_without_the_handler(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, _):
        host_end.send(Ping(nonce=9))
        await settled()
        assert host.heard == [Pong(nonce=9)]
        assert peer.heard == []


async def test_a_violation_is_told_to_both_and_closes(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, peer_end):
        peer_end.send(Call(id=1, operation="a.b"))
        peer_end.session.calls.clear()
        peer_end.send(Call(id=1, operation="a.b"))
        await settled()
        assert host_end.closed
        assert peer_end.closed
        assert [type(error) for error in host.ended + peer.ended] == [InvalidArgument, InvalidArgument]
        farewell = peer.heard[-1]
        assert isinstance(farewell, Error)
        assert "call id 1 is not free" in farewell.message
        with pytest.raises(Unavailable, match="call id 1 is not free"):
            peer_end.send(Ping())
        assert not peer_end.try_send(Ping())


async def test_a_fault_of_the_handler_ends_the_connection_and_is_logged(
    join: Join, settled: Settle, caplog: pytest.LogCaptureFixture
) -> None:
    async with join() as (host, peer, _, peer_end):

        def fail(channel: Channel, message: object) -> None:
            raise ZeroDivisionError("a fault")

        host.on_call = fail
        with caplog.at_level(logging.ERROR, "smol.transport"):
            peer_end.send(Call(id=1, operation="a.b"))
            await settled()
        assert peer_end.closed
        assert peer.ended[0].code == "INTERNAL"
        assert "could not be handled" in caplog.text


async def test_a_body_over_the_limit_of_the_host_fails_its_call_alone(join: Join, settled: Settle) -> None:
    async with join(Limits(16_384, 100)) as (host, _, _, peer_end):
        peer_end.session.send_limits = Limits()
        peer_end.send(Call(id=1, operation="a.b", attachments=[AttachmentHeader(300_000)]), [bytes(300_000)])
        peer_end.send(Call(id=2, operation="a.b"))
        await settled()
        assert [message.id for message in host.heard] == [2]
        assert not peer_end.closed
        assert list(peer_end.session.calls) == [2]


async def test_a_result_over_the_limit_of_its_caller_is_an_error_there(join: Join) -> None:
    async with join(Limits(16_384, 100)) as (host, peer, host_end, _):
        host_end.session.send_limits = Limits()
        host.on_call = lambda channel, call: channel.send(
            Result(call.id, attachments=[AttachmentHeader(101)]), [bytes(101)]
        )
        with pytest.raises(ResourceExhausted, match="101 bytes of attachments"):
            await peer.caller.call("a.b", {}, deadline_seconds=1)


async def test_an_item_over_the_limit_ends_the_stream_and_cancels_it(join: Join, settled: Settle) -> None:
    async with join(Limits(16_384, 100)) as (host, peer, host_end, peer_end):
        host_end.session.send_limits = Limits()
        stream = peer.caller.stream("a.b", {}, deadline_seconds=1)
        await settled()
        host_end.send(Item(1, attachments=[AttachmentHeader(101)]), [bytes(101)])
        host_end.send(Item(1))
        await settled()
        with pytest.raises(ResourceExhausted):
            await anext(stream)
        assert [type(message) for message in host.heard] == [Call, Cancel]
        assert not peer_end.closed


async def test_a_host_stops_reading_from_a_peer_that_does_not_read_and_a_peer_never_stops(side: Any) -> None:
    for role, expected in ((Role.HOST, False), (Role.PEER, True)):
        channel, transport = Channel(role, side()), Stalled()
        channel.connection_made(transport)  # type: ignore[arg-type]
        channel.pause_writing()
        assert transport.reading is expected
        assert not channel.writable
        channel.resume_writing()
        assert transport.reading
        assert channel.writable


def opened(side: Any) -> tuple[Channel, Stalled]:
    """A peer's channel that may send anything, and where it writes to."""
    channel, transport = Channel(Role.PEER, side()), Stalled()
    channel.connection_made(transport)  # type: ignore[arg-type]
    channel.session.state = State.OPEN
    return channel, transport


def sent(transport: Stalled) -> list[int]:
    """Which pings were written, in order."""
    frames = FrameDecoder(Limits()).feed(b"".join(transport.held))
    return [decode_message(frame.header).nonce for frame in frames]  # type: ignore[union-attr]


async def test_the_first_message_of_a_turn_goes_at_once_and_the_rest_together(side: Any) -> None:
    channel, transport = opened(side)
    for number in range(10):
        channel.send(Ping(number))
        assert sent(transport) == [0]
    await asyncio.sleep(0)
    assert (sent(transport), transport.writes) == (list(range(10)), 2)
    channel.send(Ping(10))
    assert sent(transport)[-1] == 10
    channel.connection_lost(None)


async def test_much_is_not_held_back(side: Any) -> None:
    channel, transport = opened(side)
    for number in range(40):
        channel.send(Ping(number))
    assert 30 <= len(sent(transport)) < 40
    assert transport.writes < 6
    large = Result(1, attachments=[AttachmentHeader(100_000)])
    channel.session.serving[1] = 0
    channel.send(large, [bytes(100_000)])
    assert len(transport.held[-1]) == 100_000
    channel.connection_lost(None)


async def test_what_is_held_back_goes_before_the_connection_closes(side: Any) -> None:
    channel, transport = opened(side)
    for number in range(3):
        channel.send(Ping(number))
    channel.close()
    assert sent(transport) == [0, 1, 2]
    await asyncio.sleep(0)
    assert transport.writes == 2
    channel.connection_lost(None)


async def test_whoever_waits_to_write_is_freed_when_the_connection_goes(side: Any) -> None:
    channel = Channel(Role.HOST, side())
    channel.connection_made(Stalled())  # type: ignore[arg-type]
    channel.pause_writing()
    waiting = asyncio.ensure_future(channel.wait_writable())
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.connection_lost(None)
    await waiting


async def test_whoever_is_hung_up_on_and_does_not_read_is_cut_off(
    side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smol.transport.channel._LINGER_SECONDS", 0.0)
    channel, transport = Channel(Role.HOST, side()), Stalled()
    channel.connection_made(transport)  # type: ignore[arg-type]
    buffer = channel.get_buffer(-1)
    buffer[:8] = bytes(8)
    channel.buffer_updated(8)
    (frame,) = FrameDecoder(Limits()).feed(b"".join(transport.held))
    farewell = decode_message(frame.header)
    assert isinstance(farewell, Error)
    assert (farewell.id, farewell.code, transport.ended) == (0, "INVALID_ARGUMENT", "closed")
    await asyncio.sleep(0.001)
    assert transport.ended == "aborted"
    channel.connection_lost(None)


async def test_what_comes_after_hanging_up_is_thrown_away_however_much_it_is(side: Any) -> None:
    handler = side()
    channel = Channel(Role.HOST, handler)
    channel.connection_made(Stalled())  # type: ignore[arg-type]
    for _ in range(100):
        buffer = channel.get_buffer(-1)
        assert len(buffer)
        buffer[:] = bytes(len(buffer))
        channel.buffer_updated(len(buffer))
    assert handler.heard == []
    channel.connection_lost(None)


@pytest.mark.parametrize("state", ["new", "greeting", "open", "draining", "closed"])
async def test_closing_in_any_state_tells_both_handlers_once(side: Any, settled: Settle, state: str) -> None:
    host, peer = side(), side()
    host_end, peer_end = connect_in_memory(host, peer)
    steps: list[Callable[[], None]] = [
        lambda: peer_end.send(Hello(protocol=1)),
        lambda: host_end.send(Welcome(protocol=1)),
        lambda: host_end.send(Drain()),
        lambda: host_end.send(Error(code="INTERNAL")),
    ]
    for step in steps[: list(State).index(State(state))]:
        step()
        await settled()
    assert peer_end.session.state == host_end.session.state == state
    host_end.close()
    peer_end.close()
    host_end.close()
    await host_end.wait_closed()
    await peer_end.wait_closed()
    assert (len(host.ended), len(peer.ended)) == (1, 1)
    assert (host_end.session.state, peer_end.session.state) == (State.CLOSED, State.CLOSED)
    with pytest.raises(Unavailable):
        host_end.send(Ping())
    assert not host_end.try_send(Ping())


async def test_an_end_in_mid_frame_is_a_broken_connection(side: Any) -> None:
    ours, theirs = socket.socketpair()
    host = side()
    channel = await from_socket(ours, Role.HOST, host)
    theirs.sendall(b"\0\0\0\x10\0\0\0\0{")
    theirs.close()
    await channel.wait_closed()
    assert isinstance(host.ended[0], Unavailable)
    assert "mid-frame" in host.ended[0].message


async def test_garbage_is_answered_with_the_reason(side: Any) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(5)
        host = side()
        channel = await from_socket(ours, Role.HOST, host)
        theirs.sendall(b"GET / HTTP/1.1\r\n" * 100)
        await channel.wait_closed()
        (frame,) = FrameDecoder(Limits()).feed(theirs.recv(65536))
        farewell = decode_message(frame.header)
        assert isinstance(farewell, Error)
        assert farewell.code == "RESOURCE_EXHAUSTED"
        assert isinstance(host.ended[0], ResourceExhausted)
