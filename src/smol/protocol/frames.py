"""Frames: `u32` header length, `u32` body length (big endian), header, body.

Bytes in, frames out; what a header means is `messages`' business. The decoder offers its own memory
to be filled (`get_buffer`, `buffer_updated`), so that a large body is received in place, once.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from smol.errors import InvalidArgument, ResourceExhausted

__all__ = ["PREFIX_BYTES", "Buffer", "Frame", "FrameDecoder", "Limits", "encode_frame"]

Buffer: TypeAlias = bytes | bytearray | memoryview

_PREFIX = struct.Struct(">II")
PREFIX_BYTES = _PREFIX.size
_WINDOW_BYTES = 64 * 1024
_MAPPED_BYTES = 256 * 1024
"""From this size a frame gets pages of its own: untouched until filled, given back when dropped."""


class Limits(msgspec.Struct, frozen=True):
    """The largest header and body that one side accepts, in bytes."""

    header_bytes: int = 1 << 20
    body_bytes: int = 64 << 20

    def within(self, other: Limits) -> Limits:
        """What both sides accept."""
        return Limits(min(self.header_bytes, other.header_bytes), min(self.body_bytes, other.body_bytes))


@dataclass(slots=True)
class Frame:
    """One frame. `discarded_bytes` is the length of a body over the limit, which was thrown away."""

    header: bytes
    body: Buffer = b""
    discarded_bytes: int = 0


def encode_frame(header: bytes, body: Sequence[Buffer], body_bytes: int) -> list[Buffer]:
    """The buffers of one frame, in order; the body is not copied."""
    return [b"".join((_PREFIX.pack(len(header), body_bytes), header)), *body]


class FrameDecoder:
    """Turns a byte stream into frames.

    A header over the limit, or an empty one, raises (the stream can't be followed any further).
    A body over the limit is skipped, so that its call alone fails.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._window = memoryview(bytearray(_WINDOW_BYTES))
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._large_header_bytes = 0
        self._large_filled = 0
        self._skip: Frame | None = None
        self._skip_bytes = 0

    @property
    def empty(self) -> bool:
        """Whether the stream stands between two frames."""
        return self._start == self._end and self._large is None and self._skip is None

    def get_buffer(self) -> memoryview:
        """Memory for the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _WINDOW_BYTES:
            self._compact()
        return self._window[self._end :]

    def buffer_updated(self, count: int) -> Iterator[Frame]:
        """Frames completed by the `count` bytes just written to `get_buffer()`'s memory.

        Raises InvalidArgument or ResourceExhausted when the stream is lost.
        """
        if self._large is not None:
            self._large_filled += count
            if self._large_filled == len(self._large):
                yield self._finish_large()
            return
        self._end += count
        while (frame := self._next_frame()) is not None:
            yield frame

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """Frames completed by `data`; for callers that have bytes of their own."""
        view = memoryview(data)
        while view:
            buffer = self.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            yield from self.buffer_updated(count)

    def _next_frame(self) -> Frame | None:
        if self._skip is not None:
            return self._continue_skip()
        available = self._end - self._start
        if available < PREFIX_BYTES:
            return None
        header_bytes, body_bytes = _PREFIX.unpack_from(self._window, self._start)
        self._check_header(header_bytes)
        if body_bytes > self.limits.body_bytes:
            return self._begin_skip(available, header_bytes, body_bytes)
        total = PREFIX_BYTES + header_bytes + body_bytes
        if available >= total:
            start = self._start + PREFIX_BYTES
            middle, end = start + header_bytes, self._start + total
            self._start = end
            body = bytes(self._window[middle:end]) if body_bytes else b""
            return Frame(bytes(self._window[start:middle]), body)
        if total > _WINDOW_BYTES:
            self._begin_large(available, header_bytes, total - PREFIX_BYTES)
        return None

    def _check_header(self, header_bytes: int) -> None:
        if header_bytes == 0:
            raise InvalidArgument("a frame with an empty header: every frame carries a JSON header")
        if header_bytes > self.limits.header_bytes:
            raise ResourceExhausted(
                f"a frame header of {header_bytes} bytes: the limit is {self.limits.header_bytes}; "
                "send large values as attachments",
                limit_bytes=self.limits.header_bytes,
            )

    def _begin_large(self, available: int, header_bytes: int, size: int) -> None:
        memory: bytearray | mmap.mmap = mmap.mmap(-1, size) if size >= _MAPPED_BYTES else bytearray(size)
        self._large = memoryview(memory)
        self._large_header_bytes = header_bytes
        self._large_filled = available - PREFIX_BYTES
        self._large[: self._large_filled] = self._window[self._start + PREFIX_BYTES : self._end]
        self._start = self._end = 0

    def _finish_large(self) -> Frame:
        assert self._large is not None
        header_bytes = self._large_header_bytes
        frame = Frame(bytes(self._large[:header_bytes]), self._large[header_bytes:])
        self._large = None
        return frame

    def _begin_skip(self, available: int, header_bytes: int, body_bytes: int) -> Frame | None:
        """Wait for the whole header, then skip the body. Headers over the window use memory of their own."""
        if PREFIX_BYTES + header_bytes > _WINDOW_BYTES:
            raise ResourceExhausted(
                f"a body of {body_bytes} bytes behind a header of {header_bytes}: both over the limit",
                limit_bytes=self.limits.body_bytes,
            )
        if available < PREFIX_BYTES + header_bytes:
            if self._start:
                self._compact()
            return None
        start = self._start + PREFIX_BYTES
        self._skip = Frame(bytes(self._window[start : start + header_bytes]), discarded_bytes=body_bytes)
        self._skip_bytes = body_bytes
        self._start = start + header_bytes
        return self._continue_skip()

    def _continue_skip(self) -> Frame | None:
        count = min(self._skip_bytes, self._end - self._start)
        self._start += count
        self._skip_bytes -= count
        if self._skip_bytes:
            return None
        frame, self._skip = self._skip, None
        return frame

    def _compact(self) -> None:
        count = self._end - self._start
        self._window[:count] = bytes(self._window[self._start : self._end])
        self._start, self._end = 0, count
