"""Two channels joined in memory: for tests, and for units that live in the host itself."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from smol.protocol import Buffer, Limits, Role
from smol.transport.channel import Channel, Handler

__all__ = ["connect_in_memory"]


class _Pipe:
    """A transport to a channel of the same loop. Delivers in order, never in the writer's stack."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.own: Channel | None = None
        self.peer: _Pipe | None = None
        self._reading = True
        self._closing = False
        self._pending: deque[Buffer] = deque()
        self._pending_bytes = 0
        self._high_water_bytes = 1 << 16
        self._scheduled = False

    def write(self, data: Buffer, /) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: list[Buffer], /) -> None:
        was_below = self._pending_bytes <= self._high_water_bytes
        self._pending.extend(list_of_data)
        self._pending_bytes += sum(map(len, list_of_data))
        self._schedule()
        if was_below and self._pending_bytes > self._high_water_bytes and self.own is not None:
            self.own.pause_writing()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self.peer is not None and (self.peer._pending or self.peer._closing):
            self.peer._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_water_bytes = self._high_water_bytes if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._pending_bytes

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._schedule()

    def abort(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0
        self.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        was_above = self._pending_bytes > self._high_water_bytes
        while self._pending and self.peer is not None and self.peer._reading:
            data = self._pending.popleft()
            self._pending_bytes -= len(data)
            if self.peer.own is not None:
                _fill(self.peer.own, memoryview(data))
        if was_above and self._pending_bytes <= self._high_water_bytes and self.own is not None:
            self.own.resume_writing()
        if self._closing and not self._pending:
            self._finish()

    def _finish(self) -> None:
        for end in (self, self.peer):
            if end is not None and end.own is not None:
                end._closing = True
                own, end.own = end.own, None
                own.connection_lost(None)


def _fill(receiver: Channel, view: memoryview) -> None:
    while view and not receiver.closed:
        buffer = receiver.get_buffer(-1)
        count = min(len(buffer), len(view))
        buffer[:count] = view[:count]
        view = view[count:]
        receiver.buffer_updated(count)


def connect_in_memory(host: Handler, peer: Handler, limits: Limits | None = None) -> tuple[Channel, Channel]:
    """The host's end and the peer's end of one connection."""
    loop = asyncio.get_running_loop()
    ends = Channel(Role.HOST, host, limits), Channel(Role.PEER, peer, limits)
    pipes = _Pipe(loop), _Pipe(loop)
    for index, pipe in enumerate(pipes):
        pipe.own, pipe.peer = ends[index], pipes[1 - index]
    for end, pipe in zip(ends, pipes, strict=True):
        end.connection_made(cast("asyncio.BaseTransport", pipe))
    return ends
