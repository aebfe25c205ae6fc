"""What the sandboxed side says of a run, taken as bytes from an enemy.

A frame is a little-endian length and JSON: `{"status": n, "json": text}` or `{"status": n, "repr": text}`.
Whatever else comes is no claim at all; nothing here raises, recurses without bound or keeps more than one frame.
"""

from __future__ import annotations

import struct

import msgspec

from smol.types import Json

__all__ = ["FRAME_BYTES", "Claim", "ClaimReader"]

FRAME_BYTES = 1 << 19
TEXT_CHARACTERS = 1 << 16
_LENGTH = struct.Struct("=I")


class Claim(msgspec.Struct, frozen=True):
    """status: 0 to 255. value: JSON that can be sent on; text: what is not, as its repr."""

    status: int
    value: Json = None
    text: str | None = None


class _Message(msgspec.Struct):
    status: int
    json: str | None = None
    repr: str | None = None


_decoder = msgspec.json.Decoder(_Message)


class ClaimReader:
    """Feed it what comes; `claims` holds what was said, `broken` that the rest is noise."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.broken = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        if self.broken or len(self.claims) > 1:
            return
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size and not self.broken:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > FRAME_BYTES:
                self._break()
            elif len(self._buffer) < _LENGTH.size + length:
                return
            else:
                frame = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
                del self._buffer[: _LENGTH.size + length]
                self._take(frame)

    def _take(self, frame: bytes) -> None:
        try:
            message = _decoder.decode(frame)
            if not 0 <= message.status <= 255:
                raise ValueError
            self.claims.append(_claim(message))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._break()

    def _break(self) -> None:
        self.broken = True
        self._buffer.clear()


def _claim(message: _Message) -> Claim:
    text = message.repr
    if message.json is not None:
        try:
            value = msgspec.json.decode(message.json)
            msgspec.json.encode(value)
            if _depth(message.json) <= 64 and "$attachment" not in message.json:
                return Claim(message.status, value)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            pass
        text = message.json
    if text is not None:
        text = text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode()
    return Claim(message.status, None, text)


def _depth(text: str) -> int:
    """At least the depth of a JSON text: brackets in strings count too, which errs to the safe side."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
