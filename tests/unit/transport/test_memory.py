from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from smol.errors import Unavailable
from smol.protocol.messages import AttachmentHeader, Call, Ping, Pong, Publish

Join = Callable[..., Any]
Settle = Callable[[], Awaitable[None]]


async def test_nothing_is_delivered_in_the_stack_of_the_writer(join: Join, settled: Settle) -> None:
    async with join() as (host, _, _, peer_end):
        peer_end.send(Call(id=1, operation="a.b"))
        assert host.heard == []
        await settled()
        assert len(host.heard) == 1


async def test_messages_keep_their_order_and_their_bodies(join: Join, settled: Settle) -> None:
    async with join() as (host, _, _, peer_end):
        for number in range(1, 50):
            body = bytes([number]) * number * 4000
            peer_end.send(Call(id=number, operation="a.b", attachments=[AttachmentHeader(len(body))]), [body])
        await settled()
        assert [message.id for message in host.heard] == list(range(1, 50))
        assert [len(body) for body in host.bodies] == [number * 4000 for number in range(1, 50)]


async def test_a_paused_end_holds_the_other_back_until_it_reads_again(join: Join, settled: Settle) -> None:
    async with join() as (_, peer, host_end, peer_end):
        peer_end._transport.pause_reading()
        while host_end.writable:
            host_end.send(Publish(topic="t" * 100_000))
        assert 1 << 20 < host_end._transport.get_write_buffer_size() < (1 << 20) + 200_000
        await settled()
        assert peer.heard == []
        peer_end._transport.resume_reading()
        await settled()
        assert host_end.writable
        assert len(peer.heard) == 11


async def test_what_was_sent_before_closing_arrives(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, _, peer_end):
        peer_end.send(Publish(topic="last"))
        peer_end.close()
        with pytest.raises(Unavailable):
            peer_end.send(Ping())
        await settled()
        assert [message.topic for message in host.heard] == ["last"]
        assert (host.ended, peer.ended) == ([None], [None])


async def test_what_was_sent_before_aborting_is_lost_even_to_an_end_that_does_not_read(
    join: Join, settled: Settle
) -> None:
    async with join() as (host, peer, host_end, peer_end):
        host_end._transport.pause_reading()
        peer_end.send(Publish(topic="last"))
        peer_end.abort(Unavailable("enough"))
        await settled()
        assert host.heard == []
        assert host.ended == [None]
        assert [str(error) for error in peer.ended] == ["enough"]


async def test_a_ping_crosses_a_flood(join: Join, settled: Settle) -> None:
    async with join() as (host, _, host_end, peer_end):
        for _ in range(1000):
            peer_end.send(Publish(topic="t"))
        host_end.send(Ping(nonce=1))
        await settled()
        assert host.heard[-1] == Pong(nonce=1)
