"""A channel: one connection that exchanges messages.

Joins a byte transport of asyncio to a protocol `Session`. It sends refusals where the protocol asks
for them and tells its handler the rest. It does not reconnect, retry or interpret calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from smol.errors import FailedPrecondition, Internal, SmolError, Unavailable, Unimplemented
from smol.protocol import Buffer, Frame, FrameDecoder, Limits, Role, Session, State
from smol.protocol.messages import (
    Call,
    Cancel,
    Error,
    Message,
    Ping,
    Pong,
    UnknownMessage,
    error_message,
    to_error,
)

__all__ = ["Channel", "Handler", "StreamTransport"]

_log = logging.getLogger("smol.transport")

_HIGH_WATER_BYTES = 1 << 20
_HELD_BYTES = 1 << 16
_HELD_BUFFERS = 16
"""More than this is not held back: the other side can begin meanwhile, and what it has yet to read is counted."""
_LINGER_SECONDS = 5.0
"""How long whoever is hung up on has to read what was sent to it before."""


class StreamTransport(Protocol):
    """What a channel needs of an asyncio transport."""

    def write(self, data: Buffer, /) -> None: ...
    def writelines(self, list_of_data: list[Buffer], /) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Handler(Protocol):
    """Who is told what comes in."""

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        """A legal message; `ping` and unknown types have been answered already."""

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        """The connection is gone; once, and nothing follows. None means an orderly end."""


class _Cork:
    """Holds back what the channels of a loop write, so that many small messages leave in one system call.

    While the frames of one read are handled, that is all. Else it is all but the first of each turn of the loop,
    which goes at once: a lone message never waits, and whoever gets many begins with the first.
    """

    __slots__ = ("channels", "reading", "tight")

    def __init__(self) -> None:
        self.tight = False
        self.reading = False
        self.channels: list[Channel] = []

    def tighten(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hold back what follows in this turn of the loop."""
        self.tight = True
        loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self.tight = False
        self.release()

    def release(self) -> None:
        """Write what was held back."""
        channels, self.channels = self.channels, []
        for channel in channels:
            channel._flush()


_corks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Cork] = WeakKeyDictionary()


class Channel(asyncio.BufferedProtocol):
    """One end of a connection.

    While a peer does not read what was sent to it, the host reads nothing more from it, so that what a
    slow reader makes the host hold is bounded by what it already asked for. A peer always reads: were
    both to wait for the other to read first, two large messages that cross would stop them for good.
    """

    def __init__(self, role: Role, handler: Handler, limits: Limits | None = None) -> None:
        self.session = Session(role, limits)
        self.handler = handler
        self._decoder = FrameDecoder(self.session.limits)
        self._transport: StreamTransport | None = None
        self._error: SmolError | None = None
        self._hung_up = False
        self._linger: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._cork = _corks.setdefault(self._loop, _Cork())
        self._held: list[Buffer] = []
        self._held_bytes = 0
        self._closed = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    # Sending ------------------------------------------------------------------------------------

    def send(self, message: Message, body: Sequence[Buffer] = (), body_bytes: int | None = None) -> None:
        """Send a message. Raises Unavailable when the connection is gone, and what `Session.send` raises."""
        transport = self._transport
        if transport is None or self.closing:
            reason = f": {self._error.message}" if self._error is not None else ""
            raise Unavailable(f"the connection is closed{reason}")
        if body_bytes is None:
            body_bytes = sum(map(_length, body)) if body else 0
        buffers = self.session.send(message, body, body_bytes)
        cork = self._cork
        if cork.tight or cork.reading:
            if not self._held:
                cork.channels.append(self)
            self._held += buffers
            self._held_bytes += len(buffers[0]) + body_bytes
            if self._held_bytes > _HELD_BYTES or len(self._held) > _HELD_BUFFERS:
                self._flush()
            return
        cork.tighten(self._loop)
        if len(buffers) == 1:
            transport.write(buffers[0])
        else:
            transport.writelines(buffers)

    def try_send(self, message: Message, body: Sequence[Buffer] = (), body_bytes: int | None = None) -> bool:
        """Send an answer if it can still be of use: False when the connection or the call is gone."""
        try:
            self.send(message, body, body_bytes)
        except (Unavailable, FailedPrecondition):
            return False
        return True

    @property
    def writable(self) -> bool:
        """Whether the other side keeps up with what is sent to it."""
        return self._writable.is_set()

    @property
    def unsent_bytes(self) -> int:
        """What the other side has yet to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    async def wait_writable(self) -> None:
        """Wait until the other side has caught up, or is gone."""
        await self._writable.wait()

    # Ending -------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed.done()

    @property
    def closing(self) -> bool:
        """Whether nothing can be sent any more, though the handler may not have been told yet."""
        transport = self._transport
        return transport is None or self.session.state is State.CLOSED or transport.is_closing()

    def close(self) -> None:
        """Close once everything sent has been written, or the other side took too long to read it."""
        self._hung_up = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._flush()
        if transport.get_write_buffer_size():
            self._linger = self._loop.call_later(_LINGER_SECONDS, transport.abort)
        transport.close()

    def abort(self, error: SmolError | None = None) -> None:
        """Close now; what was not written is lost."""
        self._hung_up = True
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def refuse(self, error: SmolError) -> None:
        """Say why the connection ends, and hang up."""
        transport = self._transport
        if transport is None:
            return
        self._error = self._error or error
        if not transport.is_closing():
            self._held += self.session.refuse(error)
            self.close()

    def _flush(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, []
        self._held_bytes = 0
        if held and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(held)

    # asyncio.BufferedProtocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("StreamTransport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        outermost, self._cork.reading = not self._cork.reading, True
        try:
            if not self._is_over():
                self._take(nbytes)
        except SmolError as error:
            self.refuse(error)  # The other side broke the rules.
        finally:
            if outermost:
                self._cork.reading = False
                self._cork.release()
        if self._is_over():
            self._decoder.clear()  # What is still under way is of no use.

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable.clear()
        transport = self._transport
        if transport is not None and self.session.role is Role.HOST and not transport.is_closing():
            transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        transport = self._transport
        if transport is not None and self.session.role is Role.HOST and not transport.is_closing():
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        orderly = exc is None and (self._hung_up or self._decoder.empty)
        error = self._error or (None if orderly else Unavailable(f"the connection broke: {exc or 'in mid-frame'}"))
        self._error = error
        self._writable.set()
        self._transport = None
        self.session.state = State.CLOSED
        if self._linger is not None:
            self._linger.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        self.handler.on_closed(self, error)
        self.session.close()

    # Receiving ----------------------------------------------------------------------------------

    def _take(self, count: int) -> None:
        for frame in self._decoder.buffer_updated(count):
            self._receive(frame)
            if self._is_over():
                return

    def _receive(self, frame: Frame) -> None:
        if frame.discarded_bytes:
            self._receive_oversized(frame)
            return
        message = self.session.receive(frame)
        if message is None:
            return
        kind = type(message)
        if kind is UnknownMessage or kind is Ping:
            self._answer(message)
        else:
            self._tell(message, frame.body)  # type: ignore[arg-type]
            if kind is Error and self._is_over():
                self._error = self._error or to_error(message)  # type: ignore[arg-type]
                self.close()

    def _receive_oversized(self, frame: Frame) -> None:
        message, error = self.session.oversized(frame)
        if isinstance(message, UnknownMessage):
            self._answer(message)
        elif isinstance(message, Call) and error is not None:
            self.try_send(error_message(message.id, error))
        elif isinstance(message, Error):
            if message.id in self.session.calls:
                self.try_send(Cancel(id=message.id))
            self._tell(message, b"")

    def _is_over(self) -> bool:
        return self.session.state is State.CLOSED

    def _answer(self, message: Message | UnknownMessage) -> None:
        if isinstance(message, Ping):
            self.try_send(Pong(nonce=message.nonce))
        elif isinstance(message, UnknownMessage):
            self.try_send(error_message(message.id, Unimplemented(f"unknown message type {message.type!r}")))

    def _tell(self, message: Message, body: Buffer) -> None:
        try:
            self.handler.on_message(self, message, body)
        except SmolError as error:
            self.refuse(error)
        except Exception as error:
            # A bug in a handler must not leave a connection that nobody answers on.
            _log.exception("a message could not be handled")
            self.refuse(Internal(f"{type(error).__name__}: {error}"))


def _length(buffer: Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
