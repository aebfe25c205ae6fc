"""Frames: `u32` header length, `u32` body length (big endian), header, body.

Bytes in, frames out; what a header means is `messages`' business. The decoder offers its own memory
to be filled (`get_buffer`, `buffer_updated`), so that a large body is received in place, once.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from smol.errors import InvalidArgument, ResourceExhausted

__all__ = [
    "MAX_BYTES",
    "MIN_HEADER_BYTES",
    "PREFIX_BYTES",
    "Buffer",
    "Frame",
    "FrameDecoder",
    "Limits",
    "encode_frame",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

_PREFIX = struct.Struct(">II")
PREFIX_BYTES = _PREFIX.size
_WINDOW_BYTES = 64 * 1024
_MAPPED_BYTES = 256 * 1024
"""From this size a frame gets pages of its own: untouched until filled, given back when dropped."""

MIN_HEADER_BYTES = 16 * 1024
"""No side may accept less: an error message always fits (see `messages.error_message`)."""
MAX_BYTES = 0xFFFF_FFFF
"""What the prefix can say."""


class Limits(msgspec.Struct, frozen=True):
    """The largest header and body that one side accepts, in bytes."""

    header_bytes: Annotated[int, msgspec.Meta(ge=MIN_HEADER_BYTES, le=MAX_BYTES)] = 1 << 20
    body_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)] = 64 << 20

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
        """A frame that the window can't hold, less its prefix."""
        self._large_filled = 0
        self._large_header_bytes = 0
        self._large_discard_bytes = 0
        self._skip: Frame | None = None
        """A frame whose header is there and whose body is being thrown away."""
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
        elif self._end > _WINDOW_BYTES // 2 and self._start:
            self._compact()  # While there is room left, so that no read is a few bytes only.
        return self._window[self._end :]

    def buffer_updated(self, count: int) -> Iterator[Frame]:
        """Frames completed by the `count` bytes just written to `get_buffer()`'s memory.

        Raises InvalidArgument or ResourceExhausted when the stream is lost.
        """
        if self._large is None:
            self._end += count
        else:
            self._large_filled += count
            if self._large_filled < len(self._large):
                return
            if (frame := self._finish_large()) is not None:
                yield frame
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

    def clear(self) -> None:
        """Forget what came in and was not asked for."""
        self._start = self._end = self._skip_bytes = 0
        self._large = self._skip = None

    def _next_frame(self) -> Frame | None:
        if self._skip is not None:
            return self._continue_skip()
        start = self._start
        available = self._end - start
        if available < PREFIX_BYTES:
            return None
        header_bytes, body_bytes = _PREFIX.unpack_from(self._window, start)
        if not 0 < header_bytes <= self.limits.header_bytes:
            raise self._header_error(header_bytes)
        discard_bytes = body_bytes if body_bytes > self.limits.body_bytes else 0
        kept_bytes = header_bytes + body_bytes - discard_bytes
        if available - PREFIX_BYTES < kept_bytes:
            if PREFIX_BYTES + kept_bytes > _WINDOW_BYTES:
                self._begin_large(available, header_bytes, kept_bytes, discard_bytes)
            return None
        start += PREFIX_BYTES
        middle = start + header_bytes
        self._start = end = start + kept_bytes
        header = bytes(self._window[start:middle])
        if discard_bytes:
            return self._begin_skip(header, discard_bytes)
        return Frame(header, bytes(self._window[middle:end]) if body_bytes else b"")

    def _header_error(self, header_bytes: int) -> InvalidArgument | ResourceExhausted:
        if header_bytes == 0:
            return InvalidArgument("a frame with an empty header: every frame carries a JSON header")
        return ResourceExhausted(
            f"a frame header of {header_bytes} bytes: the limit is {self.limits.header_bytes}; "
            "send large values as attachments",
            limit_bytes=self.limits.header_bytes,
        )

    def _begin_large(self, available: int, header_bytes: int, kept_bytes: int, discard_bytes: int) -> None:
        mapped = kept_bytes >= _MAPPED_BYTES
        self._large = memoryview(mmap.mmap(-1, kept_bytes) if mapped else bytearray(kept_bytes))
        self._large_header_bytes = header_bytes
        self._large_discard_bytes = discard_bytes
        self._large_filled = available - PREFIX_BYTES
        self._large[: self._large_filled] = self._window[self._start + PREFIX_BYTES : self._end]
        self._start = self._end = 0

    def _finish_large(self) -> Frame | None:
        large, self._large = self._large, None
        if large is None:
            return None
        header = bytes(large[: self._large_header_bytes])
        if self._large_discard_bytes:
            return self._begin_skip(header, self._large_discard_bytes)
        return Frame(header, large[self._large_header_bytes :])

    def _begin_skip(self, header: bytes, discard_bytes: int) -> Frame | None:
        self._skip = Frame(header, discarded_bytes=discard_bytes)
        self._skip_bytes = discard_bytes
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
