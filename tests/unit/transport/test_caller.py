from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from smol.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from smol.protocol import encode_payload
from smol.protocol.messages import (
    Call,
    Cancel,
    Credit,
    End,
    Event,
    Item,
    Progress,
    Result,
    Subscribe,
    Unsubscribe,
    error_message,
)
from smol.types import Attachment

Join = Callable[..., Any]
Settle = Callable[[], Any]


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_a_call_gets_its_result_with_attachments(join: Join) -> None:
    async with join() as (host, peer, host_end, _):
        value, headers, body = encode_payload({"image": Attachment(b"png", "image/png")})
        host.on_call = lambda channel, call: channel.send(Result(call.id, value, headers), body)
        reply = await peer.caller.call("a.b", {"x": Attachment(b"in")}, deadline_seconds=1)
        assert reply.attachments == [Attachment(b"png", "image/png")]
        (call,) = host.heard
        assert (call.operation, bytes(call.arguments), host.bodies) == ("a.b", b'{"x":{"$attachment":0}}', [b"in"])
        assert call.budget_ms == 1000
        assert host_end.session.serving == {}


async def test_an_error_is_raised_as_its_class(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(error_message(call.id, NotFound("no a.b", known=["a"])))
        with pytest.raises(NotFound, match=r"no a\.b") as caught:
            await peer.caller.call("a.b", {}, deadline_seconds=1)
        assert caught.value.details == {"known": ["a"]}


async def test_a_call_that_failed_lets_go_of_its_arguments_without_a_collection(
    join: Join, collected_by_hand: None
) -> None:
    class Large(bytearray):
        """Bytes that tell when they go."""

    data = Large(b"large")
    gone = weakref.ref(data)
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(error_message(call.id, NotFound("no a.b")))
        with contextlib.suppress(NotFound):
            await peer.caller.call("a.b", {"x": Attachment(data)}, deadline_seconds=1)
        host.bodies.clear()
        del data
        await asyncio.sleep(0)
        assert gone() is None


async def test_calls_in_flight_are_answered_in_any_order(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, _):
        calls = [asyncio.ensure_future(peer.caller.call("a.b", {"n": n}, deadline_seconds=1)) for n in range(3)]
        await settled()
        for call in reversed(host.heard):
            host_end.send(Result(call.id, call.arguments))
        assert [bytes((await call).value) for call in calls] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


async def test_both_sides_call_at_once(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(Result(call.id, raw('"host"')))
        peer.on_call = lambda channel, call: channel.send(Result(call.id, raw('"peer"')))
        replies = await asyncio.gather(
            peer.caller.call("a.b", {}, deadline_seconds=1), host.caller.call("a.b", {}, deadline_seconds=1)
        )
        assert [bytes(reply.value) for reply in replies] == [b'"host"', b'"peer"']


async def test_a_cancelled_task_cancels_its_call_and_a_late_answer_is_passed_over(
    join: Join, settled: Settle
) -> None:
    async with join() as (host, peer, host_end, peer_end):
        task = asyncio.ensure_future(peer.caller.call("a.b", {}, deadline_seconds=1))
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()
        assert [type(message) for message in host.heard] == [Call, Cancel]
        host_end.send(Result(host.heard[0].id))
        await settled()
        assert peer_end.session.calls == {}
        assert peer.heard == []


async def test_a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled(
    join: Join, settled: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smol.transport.caller._GRACE_SECONDS", 0.0)
    async with join() as (host, peer, _, _):
        with pytest.raises(DeadlineExceeded, match=r"a\.b did not answer"):
            await peer.caller.call("a.b", {}, deadline_seconds=0.02)
        stream = peer.caller.stream("a.c", {}, deadline_seconds=0.02)
        with pytest.raises(DeadlineExceeded, match=r"a\.c did not answer"):
            await anext(stream)
        await settled()
        assert [type(message) for message in host.heard] == [Call, Cancel, Call, Cancel]


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
async def test_a_call_without_time_is_not_made(join: Join, settled: Settle, seconds: float) -> None:
    async with join() as (host, peer, _, _):
        with pytest.raises(DeadlineExceeded, match="no time left"):
            await peer.caller.call("a.b", {}, deadline_seconds=seconds)
        await settled()
        assert host.heard == []


async def test_a_call_may_have_all_the_time_there_is(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(Result(call.id))
        await peer.caller.call("a.b", {}, deadline_seconds=math.inf)
        assert host.heard[0].budget_ms == 365 * 86_400_000


async def test_progress_is_reported_and_a_failing_callback_harms_nothing(join: Join, settled: Settle) -> None:
    async with join() as (_, peer, host_end, _):
        seen: list[tuple[float, str]] = []

        def report(fraction: float, message: str) -> None:
            seen.append((fraction, message))
            raise RuntimeError("a fault of the callback")

        task = asyncio.ensure_future(peer.caller.call("a.b", {}, deadline_seconds=1, on_progress=report))
        await settled()
        host_end.send(Progress(1, 0.5, "half"))
        host_end.send(Progress(1, -1.0))
        host_end.send(Result(1))
        await task
        assert seen == [(0.5, "half"), (-1.0, "")]


async def test_a_stream_gives_back_credit_as_it_is_read(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, _):
        stream = peer.caller.stream("a.b", {}, deadline_seconds=1)
        await settled()
        sent = 0
        received: list[int] = []
        while sent < 20:
            while sent < 20 and host_end.session.serving[1] > 0:
                host_end.send(Item(1, raw(str(sent))))
                sent += 1
            assert sent - len(received) <= 8
            await settled()
            received.append(int(bytes((await anext(stream)).value)))
            await settled()
        host_end.send(End(id=1))
        received += [int(bytes(item.value)) async for item in stream]
        assert received == list(range(20))
        assert {message.items for message in host.heard if isinstance(message, Credit)} == {4}


async def test_a_reader_that_does_not_read_bounds_what_is_sent_to_it(join: Join, settled: Settle) -> None:
    async with join() as (_, peer, host_end, _):
        stream = peer.caller.stream("a.b", {}, deadline_seconds=1)
        await settled()
        sent = 0
        while host_end.try_send(Item(1, raw(str(sent)))):
            sent += 1
            await settled()
        assert sent == 8
        await stream.aclose()
        host_end.send(End(id=1))


async def test_closing_a_stream_early_cancels_it_once(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, peer_end):
        async with peer.caller.stream("a.b", {}, deadline_seconds=1) as stream:
            await settled()
            host_end.send(Item(1))
            await anext(stream)
            host_end.send(Item(1))
            await settled()
        await stream.aclose()
        await settled()
        assert [type(message) for message in host.heard] == [Call, Cancel]
        host_end.send(Item(1))
        host_end.send(End(id=1))
        await settled()
        assert peer_end.session.calls == {}


async def test_a_stream_raises_its_error_after_the_items_before_it(join: Join, settled: Settle) -> None:
    async with join() as (_, peer, host_end, _):
        stream = peer.caller.stream("a.b", {}, deadline_seconds=1)
        await settled()
        host_end.send(Item(1, raw("1")))
        host_end.send(error_message(1, Unavailable("gone")))
        await settled()
        assert bytes((await anext(stream)).value) == b"1"
        with pytest.raises(Unavailable, match="gone"):
            await anext(stream)


async def test_a_unary_operation_called_as_a_stream_has_one_item(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(Result(call.id, raw("7")))
        stream = peer.caller.stream("a.b", {}, deadline_seconds=1)
        assert [bytes(item.value) async for item in stream] == [b"7"]


async def test_a_stream_called_for_one_result_is_an_error(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, call: channel.send(End(id=call.id))
        with pytest.raises(InvalidArgument, match="stream it"):
            await peer.caller.call("a.b", {}, deadline_seconds=1)


async def test_a_subscription_gets_its_events_until_it_is_closed(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, peer_end):
        host.on_call = lambda channel, message: (
            channel.send(Result(message.id))
            if isinstance(message, Subscribe)
            else channel.send(End(id=message.id))
        )
        async with await peer.caller.subscribe("unit.*") as events:
            host_end.send(Event(1, "unit.ready", raw('"math"'), 3))
            event = await anext(events)
            assert (event.topic, bytes(event.data), event.dropped) == ("unit.ready", b'"math"', 3)
        await settled()
        assert [type(message) for message in host.heard] == [Subscribe, Unsubscribe]
        assert peer_end.session.calls == {}
        assert host_end.session.serving == {}


async def test_a_refused_subscription_raises(join: Join) -> None:
    async with join() as (host, peer, _, _):
        host.on_call = lambda channel, message: channel.send(error_message(message.id, NotFound("no topic")))
        with pytest.raises(NotFound):
            await peer.caller.subscribe("x")


async def test_a_subscriber_that_lags_loses_the_oldest_events_and_is_told_how_many(
    join: Join, settled: Settle
) -> None:
    async with join() as (host, peer, host_end, _):
        host.on_call = lambda channel, message: channel.send(Result(message.id))
        events = await peer.caller.subscribe("t")
        for number in range(300):
            host_end.send(Event(1, "t", raw(str(number)), 1 if number == 10 else 0))
            if number % 50 == 0:
                await settled()
        await settled()
        first = await anext(events)
        assert (bytes(first.data), first.dropped) == (b"44", 45)
        second = await anext(events)
        assert (bytes(second.data), second.dropped) == (b"45", 0)


async def test_everything_fails_when_the_connection_goes(join: Join, settled: Settle) -> None:
    async with join() as (host, peer, host_end, peer_end):
        host.on_call = lambda channel, message: (
            channel.send(Result(message.id)) if isinstance(message, Subscribe) else None
        )
        events = await peer.caller.subscribe("t")
        call = asyncio.ensure_future(peer.caller.call("a.b", {}, deadline_seconds=60))
        stream = peer.caller.stream("a.b", {}, deadline_seconds=60)
        await settled()
        peer_end.abort(Unavailable("the host is gone"))
        for waiting in (call, anext(stream), anext(events)):
            with pytest.raises(Unavailable, match="the host is gone"):
                await waiting
        with pytest.raises(Unavailable):
            await peer.caller.call("a.b", {}, deadline_seconds=1)
        await settled()
        assert len(host.ended) == 1
        assert host_end.session.serving == {}
