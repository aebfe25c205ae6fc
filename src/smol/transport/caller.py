"""Calls of ours over a channel: what was asked, who waits for it, until when.

Used by clients and by workers that call other units. It never retries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from smol.errors import DeadlineExceeded, InvalidArgument, SmolError, Unavailable
from smol.protocol import Buffer, encode_payload, split_body
from smol.protocol.messages import (
    Call,
    Cancel,
    Credit,
    End,
    Error,
    Event,
    Item,
    Message,
    Progress,
    Result,
    Subscribe,
    Unsubscribe,
    to_error,
)
from smol.transport.channel import Channel
from smol.transport.inbox import Inbox, Occurrence, Reply

__all__ = ["Caller", "ProgressCallback"]

ProgressCallback = Callable[[float, str], None]

_log = logging.getLogger("smol.transport")

_STREAM_CREDIT = 8
"""Items on their way at once: enough to hide a round trip, few enough to hold in memory."""
_CREDIT_BATCH = 4
"""Items taken before the credit for them is given back, in one message."""
_EVENTS_KEPT = 256
"""Events held for a reader that lags; the oldest go first, and are counted."""
_LONGEST_SECONDS = 365 * 86400.0
_GRACE_SECONDS = 0.25
"""How much later than the host we give up by ourselves: its answer says more."""


class Caller:
    """The calls in flight on one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._progress: dict[int, ProgressCallback] = {}
        self._streams: dict[int, Inbox[Reply]] = {}
        self._subscriptions: dict[int, Inbox[Occurrence]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._taken: dict[int, int] = {}

    async def call(
        self,
        operation: str,
        arguments: Any,
        *,
        deadline_seconds: float,
        trace: str = "",
        key: str = "",
        keep_alive_ms: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Reply:
        """Call a unary operation. Raises the SmolError it answers, or DeadlineExceeded.

        Cancelling the task cancels the call.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        call_id = self._send(operation, arguments, deadline_seconds, trace, key, 0, keep_alive_ms)
        self._waiting[call_id] = future
        if on_progress is not None:
            self._progress[call_id] = on_progress
        try:
            return await future
        except asyncio.CancelledError:
            self._say(call_id, Cancel(id=call_id))
            raise
        finally:
            self._timers.pop(call_id).cancel()
            self._waiting.pop(call_id, None)
            self._progress.pop(call_id, None)
            # Its error knows this frame: together they would keep the arguments until a collection.
            del future

    def stream(
        self,
        operation: str,
        arguments: Any,
        *,
        deadline_seconds: float,
        trace: str = "",
        key: str = "",
        keep_alive_ms: int | None = None,
    ) -> Inbox[Reply]:
        """Call a streaming operation; iterate the result, and `aclose` it to stop early."""
        call_id = self._send(operation, arguments, deadline_seconds, trace, key, _STREAM_CREDIT, keep_alive_ms)
        stream: Inbox[Reply] = Inbox(
            partial(self._grant, call_id), partial(self._drop, call_id, Cancel(id=call_id))
        )
        self._streams[call_id] = stream
        return stream

    async def subscribe(self, topic: str) -> Inbox[Occurrence]:
        """Events of a topic (`*` at its end stands for any rest), from when this returns."""
        call_id = self._channel.session.next_id()
        farewell = Unsubscribe(id=call_id)
        subscription: Inbox[Occurrence] = Inbox(lambda: None, partial(self._drop, call_id, farewell), _EVENTS_KEPT)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._channel.send(Subscribe(id=call_id, topic=topic))
        self._waiting[call_id] = future
        self._subscriptions[call_id] = subscription
        try:
            await future
        except BaseException:
            self._drop(call_id, farewell)
            raise
        finally:
            self._waiting.pop(call_id, None)
        return subscription

    def handle(self, message: Message, body: Buffer) -> bool:
        """Take an answer to one of our calls. False when `message` is something else."""
        if isinstance(message, Result):
            self._settle(message.id, Reply(message.value, split_body(message.attachments, body)))
        elif isinstance(message, Error) and message.id:
            self._settle(message.id, to_error(message))
        elif isinstance(message, Item):
            if message.id in self._streams:
                self._streams[message.id].put(Reply(message.value, split_body(message.attachments, body)))
        elif isinstance(message, End):
            self._end(message.id)
        elif isinstance(message, Event):
            if message.id in self._subscriptions:
                self._subscriptions[message.id].put(Occurrence(message.topic, message.data, message.dropped))
        elif isinstance(message, Progress):
            self._report(message)
        else:
            return False
        return True

    def fail(self, error: SmolError) -> None:
        """The connection is gone: every call ends with Unavailable, whatever ended the connection."""
        if not isinstance(error, Unavailable):
            error = Unavailable(f"the connection ended: {error.message}")
        for call_id in [*self._waiting, *self._streams, *self._subscriptions]:
            self._settle(call_id, error)

    def _report(self, message: Progress) -> None:
        callback = self._progress.get(message.id)
        if callback is not None:
            try:
                callback(message.fraction, message.message)
            except Exception:
                _log.exception("a progress callback failed")

    def _send(
        self,
        operation: str,
        arguments: Any,
        deadline_seconds: float,
        trace: str,
        key: str,
        credit: int,
        keep_alive_ms: int | None,
    ) -> int:
        if not deadline_seconds > 0:
            raise DeadlineExceeded(f"no time left to call {operation}")
        deadline_seconds = min(deadline_seconds, _LONGEST_SECONDS)
        value, headers, body = encode_payload(arguments)
        call_id = self._channel.session.next_id()
        budget_ms = max(1, round(deadline_seconds * 1000))
        call = Call(call_id, operation, value, headers, budget_ms, credit, trace, key, "", keep_alive_ms)
        self._channel.send(call, body)
        self._timers[call_id] = self._loop.call_later(
            deadline_seconds + _GRACE_SECONDS, self._expire, call_id, operation
        )
        return call_id

    def _settle(self, call_id: int, outcome: Reply | SmolError) -> None:
        future = self._waiting.get(call_id)
        if future is not None:
            if future.done():
                return
            if isinstance(outcome, SmolError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        elif (inbox := self._forget_stream(call_id)) is not None:
            if isinstance(outcome, Reply):
                inbox.put(outcome)  # A unary operation called as a stream has one item.
            inbox.finish(outcome if isinstance(outcome, SmolError) else None)
        elif (subscription := self._subscriptions.pop(call_id, None)) is not None:
            subscription.finish(outcome if isinstance(outcome, SmolError) else None)

    def _end(self, call_id: int) -> None:
        if call_id in self._waiting:
            self._settle(
                call_id, InvalidArgument("a streaming operation was called for a single result: stream it")
            )
        elif (stream := self._forget_stream(call_id)) is not None:
            stream.finish(None)

    def _expire(self, call_id: int, operation: str) -> None:
        self._say(call_id, Cancel(id=call_id))
        self._settle(call_id, DeadlineExceeded(f"{operation} did not answer before its deadline"))

    def _grant(self, call_id: int) -> None:
        taken = self._taken.get(call_id, 0) + 1
        if taken == _CREDIT_BATCH:
            self._say(call_id, Credit(id=call_id, items=taken))
            taken = 0
        self._taken[call_id] = taken

    def _drop(self, call_id: int, farewell: Message) -> None:
        self._subscriptions.pop(call_id, None)
        self._forget_stream(call_id)
        self._say(call_id, farewell)

    def _forget_stream(self, call_id: int) -> Inbox[Reply] | None:
        stream = self._streams.pop(call_id, None)
        if stream is not None:
            self._timers.pop(call_id).cancel()
            self._taken.pop(call_id, None)
        return stream

    def _say(self, call_id: int, message: Message) -> None:
        """Say something about a call, if it still means anything to the other side."""
        if call_id in self._channel.session.calls:
            self._channel.try_send(message)
