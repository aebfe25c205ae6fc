"""Two channels joined in memory: for tests, and for units that live in the host itself."""

from __future__ import annotations

import asyncio
from typing import cast

from smol.protocol import Buffer, Limits, Role
from smol.transport.channel import Channel, Handler

__all__ = ["connect_in_memory"]


class _Pipe:
    """A transport to a channel of the same loop. Delivers in order, never in the writer's stack."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.receiver: Channel | None = None
        self.peer: _Pipe | None = None
        self.own: Channel | None = None
        self._paused = False
        self._closing = False
        self._pending: list[Buffer] = []
        self._scheduled = False

    def write(self, data: Buffer, /) -> None:
        self._pending.append(data)
        self._schedule()

    def writelines(self, list_of_data: list[Buffer], /) -> None:
        self._pending.extend(list_of_data)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not (self.peer and self.peer._paused):
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        pending, self._pending = self._pending, []
        receiver = self.receiver
        for data in pending:
            view = memoryview(data)
            while view and receiver is not None and not receiver.closed:
                buffer = receiver.get_buffer(-1)
                count = min(len(buffer), len(view))
                buffer[:count] = view[:count]
                view = view[count:]
                receiver.buffer_updated(count)
        if self._closing and not self._pending:
            self._finish()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self.peer is not None and (self.peer._pending or self.peer._closing):
            self.peer._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered: the other end takes what it is given."""

    def get_write_buffer_size(self) -> int:
        return sum(len(data) for data in self._pending)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._schedule()

    def abort(self) -> None:
        self._pending.clear()
        self.close()

    def _finish(self) -> None:
        for end in (self, self.peer):
            if end is not None and end.own is not None:
                end._closing = True
                own, end.own = end.own, None
                own.connection_lost(None)


def connect_in_memory(host: Handler, peer: Handler, limits: Limits | None = None) -> tuple[Channel, Channel]:
    """The host's end and the peer's end of one connection."""
    loop = asyncio.get_running_loop()
    ends = Channel(Role.HOST, host, limits), Channel(Role.PEER, peer, limits)
    pipes = _Pipe(loop), _Pipe(loop)
    for index, pipe in enumerate(pipes):
        pipe.own, pipe.receiver, pipe.peer = ends[index], ends[1 - index], pipes[1 - index]
    for end, pipe in zip(ends, pipes, strict=True):
        end.connection_made(cast("asyncio.BaseTransport", pipe))
    return ends
