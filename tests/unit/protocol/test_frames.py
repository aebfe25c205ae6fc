from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import InvalidArgument, ResourceExhausted
from smol.protocol import Frame, FrameDecoder, Limits, encode_frame

LIMITS = Limits(header_bytes=100_000, body_bytes=1_000_000)
Plain = tuple[bytes, bytes, int]


def encoded(header: bytes, body: bytes = b"") -> bytes:
    return b"".join(encode_frame(header, [body], len(body)))


def plain(frames: Iterable[Frame]) -> list[Plain]:
    return [(frame.header, bytes(frame.body), frame.discarded_bytes) for frame in frames]


def decode_in_pieces(decoder: FrameDecoder, data: bytes, pieces: Iterable[int]) -> list[Plain]:
    found: list[Plain] = []
    at = 0
    for piece in pieces:
        found += plain(decoder.feed(data[at : at + piece]))
        at += piece
    return found + plain(decoder.feed(data[at:]))


def test_a_frame_is_two_lengths_the_header_and_the_body() -> None:
    assert encoded(b"{}", b"abc") == b"\0\0\0\2\0\0\0\3{}abc"


def test_the_body_is_not_copied_when_it_is_sent() -> None:
    body = bytearray(1000)
    assert encode_frame(b"{}", [body], 1000)[1] is body


@given(
    frames=st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=300)), max_size=8),
    pieces=st.lists(st.integers(1, 400), max_size=30),
)
def test_frames_come_out_as_they_went_in_however_they_are_split(
    frames: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    decoder = FrameDecoder(LIMITS)
    data = b"".join(encoded(*frame) for frame in frames)
    assert decode_in_pieces(decoder, data, pieces) == [(header, body, 0) for header, body in frames]
    assert decoder.empty


@given(
    sizes=st.lists(st.tuples(st.integers(1, 90_000), st.integers(0, 300_000)), min_size=1, max_size=4),
    pieces=st.lists(st.integers(1, 100_000), max_size=12),
    body_limit=st.sampled_from([0, 50, 70_000, 1_000_000]),
)
def test_frames_around_the_window_and_over_the_limit_come_out_however_they_are_split(
    sizes: list[tuple[int, int]], pieces: list[int], body_limit: int
) -> None:
    decoder = FrameDecoder(Limits(100_000, body_limit))
    data = b"".join(encoded(b"h" * header, b"b" * body) for header, body in sizes)
    expected = [
        (b"h" * header, b"b" * body, 0) if body <= body_limit else (b"h" * header, b"", body)
        for header, body in sizes
    ]
    assert decode_in_pieces(decoder, data, pieces) == expected
    assert decoder.empty


def test_a_frame_arrives_one_byte_at_a_time() -> None:
    data = encoded(b"{1}", b"abc") + encoded(b"{2}")
    decoder = FrameDecoder(LIMITS)
    assert decode_in_pieces(decoder, data, [1] * len(data)) == [(b"{1}", b"abc", 0), (b"{2}", b"", 0)]


def test_the_decoder_knows_when_it_stands_in_mid_frame() -> None:
    data = encoded(b"{}", b"x" * 100_000)
    decoder = FrameDecoder(LIMITS)
    for cut in (1, 7, 8, 9, 10, 500, 70_000):
        list(decoder.feed(data[:cut]))
        stood_between = decoder.empty
        frames = list(decoder.feed(data[cut:]))
        assert (stood_between, len(frames), decoder.empty) == (False, 1, True), cut


def test_the_buffer_offered_is_never_empty_and_never_small() -> None:
    decoder = FrameDecoder(LIMITS)
    data = encoded(b"h" * 10, b"b" * 40_000) * 10
    while data:
        buffer = decoder.get_buffer()
        assert len(buffer) >= min(len(data), 8_000)
        count = min(len(buffer), len(data), 33_000)
        buffer[:count] = data[:count]
        data = data[count:]
        list(decoder.buffer_updated(count))


def test_an_empty_header_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="empty header"):
        list(FrameDecoder(LIMITS).feed(bytes(8)))


def test_a_header_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(ResourceExhausted, match="100001 bytes") as caught:
        list(FrameDecoder(LIMITS).feed(struct.pack(">II", 100_001, 0)))
    assert caught.value.details == {"limit_bytes": 100_000}


def test_a_body_is_held_once_and_stays_valid_after_the_next_frame() -> None:
    decoder = FrameDecoder(LIMITS)
    first, second = b"1" * 400_000, b"2" * 400_000
    frames = list(decoder.feed(encoded(b"a", first))) + list(decoder.feed(encoded(b"b", second)))
    assert [bytes(frame.body) for frame in frames] == [first, second]


def test_a_small_body_stays_valid_after_the_next_frame() -> None:
    decoder = FrameDecoder(LIMITS)
    frames = list(decoder.feed(encoded(b"a", b"first"))) + list(decoder.feed(encoded(b"b", b"2" * 60_000)))
    assert frames[0].body == b"first"


def test_a_cleared_decoder_starts_anew() -> None:
    for cut in (4, 9, 70_000):
        decoder = FrameDecoder(LIMITS)
        list(decoder.feed(encoded(b"{}", b"x" * 100_000)[:cut]))
        decoder.clear()
        assert decoder.empty
        assert plain(decoder.feed(encoded(b"{}"))) == [(b"{}", b"", 0)]


def test_both_limits_hold_for_whoever_sends() -> None:
    assert Limits(100_000, 10).within(Limits(20_000, 50)) == Limits(20_000, 10)
