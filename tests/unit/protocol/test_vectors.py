"""The golden vectors of `tests/wire`, run through a channel over a transport that writes down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from smol.errors import SmolError
from smol.protocol import Buffer, FrameDecoder, Limits, Role, encode_payload
from smol.protocol.messages import Message, decode_message
from smol.transport import Channel

WIRE = Path(__file__).parents[2] / "wire"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(WIRE.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
SPLITTABLE = [param for param in CASES if cast("dict[str, Any]", param.values[0]).get("truncate")]


class Wire:
    """The transport's side of a channel: keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, data: Buffer, /) -> None:
        self.written += data

    def writelines(self, list_of_data: list[Buffer], /) -> None:
        for data in list_of_data:
            self.write(data)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Player:
    """Plays a case and notes what the implementation does."""

    def __init__(self, case: dict[str, Any]) -> None:
        limits = msgspec.convert(case["limits"], Limits) if "limits" in case else None
        self.heard: list[dict[str, Any]] = []
        self.ended: SmolError | None = None
        self.wire = Wire()
        self.channel = Channel(Role(case["role"]), self, limits)
        self.channel.connection_made(cast("asyncio.BaseTransport", self.wire))

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        self.heard.append(plain(message) | {"body": bytes(body).hex()})

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        self.ended = error

    def feed(self, data: bytes, piece_bytes: int | None = None) -> None:
        view = memoryview(data)
        while view and not self.wire.closing:
            buffer = self.channel.get_buffer(-1)
            count = min(len(buffer), len(view), piece_bytes or len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            self.channel.buffer_updated(count)

    def answered(self) -> list[dict[str, Any]]:
        frames = list(FrameDecoder(Limits()).feed(bytes(self.wire.written)))
        self.wire.written.clear()
        return [plain(decode_message(frame.header)) for frame in frames]

    async def send(self, step: dict[str, Any]) -> None:
        message = decode_unchecked(step["send"])
        body = bytes.fromhex(step["body"])
        if step["legal"]:
            self.channel.send(message, [body] if body else [])
        else:
            before = snapshot(self.channel)
            with pytest.raises(SmolError):
                self.channel.send(message, [body] if body else [])
            assert snapshot(self.channel) == before
            assert not self.wire.written
        await asyncio.sleep(0)  # What was held back is written at the end of the loop's turn.
        self.wire.written.clear()

    async def play(self, case: dict[str, Any], piece_bytes: int | None = None) -> None:
        for step in case["steps"]:
            if "send" in step:
                await self.send(step)
                continue
            self.heard.clear()
            self.feed(bytes.fromhex(step["receive"]), piece_bytes)
            answers = self.answered()
            if step["closed"] is not None:
                farewell = answers.pop()
                assert (farewell["type"], farewell["id"], farewell["code"]) == ("error", 0, step["closed"])
            assert_alike(self.heard, step["messages"])
            assert_alike(answers, step["answers"])
        if "state" in case:
            assert self.channel.session.state == case["state"]


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON objects, with its defaults."""
    result: dict[str, Any] = {"type": message.__struct_config__.tag}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        result[name] = msgspec.json.decode(value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value))
    return result


def decode_unchecked(fields: dict[str, Any]) -> Message:
    """A message to be sent, also one that no decoder would let through."""
    kinds = {kind.__struct_config__.tag: kind for kind in Message.__subclasses__()}
    if fields["type"] == "call" and fields["id"] == 0:
        return msgspec.structs.replace(decode_unchecked({**fields, "id": 1}), id=0)
    return msgspec.json.decode(encode_payload(fields)[0], type=kinds[fields["type"]])


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Each message has the fields that are listed, with the values that are listed."""
    assert [message["type"] for message in found] == [message["type"] for message in expected]
    for message, wanted in zip(found, expected, strict=True):
        assert {key: with_defaults(message[key], wanted[key]) for key in wanted} == wanted


def with_defaults(found: Any, wanted: Any) -> Any:
    """`found` without the members of objects that `wanted` does not list."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {key: with_defaults(found.get(key), value) for key, value in wanted.items()}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [with_defaults(*pair) for pair in zip(found, wanted, strict=True)]
    return found


def snapshot(channel: Channel) -> object:
    session = channel.session
    return (
        session.state,
        dict(session.calls),
        dict(session.serving),
        dict(session._granted),
        set(session._streaming),
    )


@pytest.mark.parametrize("case", CASES)
async def test_a_vector_gives_what_it_says(case: dict[str, Any]) -> None:
    await Player(case).play(case)


@pytest.mark.parametrize("case", CASES)
async def test_a_vector_gives_the_same_in_pieces(case: dict[str, Any]) -> None:
    size = sum(len(step.get("receive", "")) // 2 for step in case["steps"])
    await Player(case).play(case, piece_bytes=1 if size < 3000 else 997)


@pytest.mark.parametrize("case", SPLITTABLE)
async def test_a_vector_cut_at_any_byte_is_waited_for_and_then_reported(case: dict[str, Any]) -> None:
    last = max(index for index, step in enumerate(case["steps"]) if "receive" in step)
    *before, step = case["steps"][: last + 1]
    data = bytes.fromhex(step["receive"])
    boundaries = frame_boundaries(data)
    for count in range(len(data)):
        player = Player(case)
        await player.play({"steps": before})
        player.heard.clear()
        player.feed(data[:count])
        assert not player.wire.closing, f"refused at byte {count}"
        assert len(player.heard) <= len(step["messages"])
        assert_alike(player.heard, step["messages"][: len(player.heard)])
        player.channel.connection_lost(None)
        assert (player.ended is None) == (count in boundaries), f"cut at byte {count}"


def frame_boundaries(data: bytes) -> set[int]:
    found, at = {0}, 0
    while at < len(data):
        at += 8 + int.from_bytes(data[at : at + 4], "big") + int.from_bytes(data[at + 4 : at + 8], "big")
        found.add(at)
    return found


def test_the_vectors_meet_every_message_type() -> None:
    steps = [step for param in CASES for step in cast("dict[str, Any]", param.values[0])["steps"]]
    met = {message["type"] for step in steps for message in (step.get("messages", []) + step.get("answers", []))}
    met |= {step["send"]["type"] for step in steps if "send" in step}
    assert met == {kind.__struct_config__.tag for kind in Message.__subclasses__()}
