from __future__ import annotations

import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import InvalidArgument
from smol.protocol import decode_payload, encode_payload, split_body
from smol.protocol.messages import AttachmentHeader
from smol.types import Attachment

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def round_trip(value: Any) -> Any:
    data, headers, body = encode_payload(value)
    return decode_payload(data, split_body(headers, b"".join(body)))


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert round_trip(value) == value


def test_attachments_come_back_in_their_places() -> None:
    first, second = Attachment(b"abc", "image/png", "a.png"), Attachment(b"", "text/plain")
    value = {"images": [second, {"deep": first}], "n": 1}
    assert round_trip(value) == value


def test_an_attachment_is_sent_as_often_as_it_is_named() -> None:
    same = Attachment(b"abc")
    data, headers, _ = encode_payload([same, same])
    assert bytes(data) == b'[{"$attachment":0},{"$attachment":1}]'
    assert [header.bytes for header in headers] == [3, 3]


def test_memory_of_any_shape_is_sent_as_its_bytes() -> None:
    numbers = array.array("f", [1.0, 2.0, 3.0])
    data = [memoryview(numbers), memoryview(b"abcdef")[::2], memoryview(b""), bytearray(b"xy")]
    _, headers, body = encode_payload([Attachment(item) for item in data])  # type: ignore[arg-type]
    assert [header.bytes for header in headers] == [12, 3, 0, 2]
    assert [bytes(item) for item in body] == [numbers.tobytes(), b"ace", b"", b"xy"]


@pytest.mark.parametrize(
    "value", [object(), {1, object()}, {(1, 2): 3}, "\ud800", ["\ud800"], Attachment("text")]  # type: ignore[arg-type]
)  # fmt: skip
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument):
        encode_payload(value)


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument):
        encode_payload(loop)


@pytest.mark.parametrize("placeholder", ['{"$attachment":2}', '{"$attachment":-1}', '{"$attachment":true}',
                                         '{"$attachment":"0"}', '{"$attachment":0,"x":1}'])  # fmt: skip
def test_a_placeholder_without_an_attachment_is_refused(placeholder: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\$attachment"):
        decode_payload(msgspec.Raw(f'{{"x":[{placeholder}]}}'.encode()), [Attachment(b"a"), Attachment(b"b")])


@pytest.mark.parametrize("data", [b"{", b'"\xff"', b"[" * 100_000, b'"\\ud800"', b"1e999"])
def test_malformed_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_payload(msgspec.Raw(data), [])


def test_deep_json_with_attachments_is_refused_not_a_crash() -> None:
    deep = b"[" * 900 + b"]" * 900
    try:
        decode_payload(msgspec.Raw(deep), [Attachment(b"")])
    except InvalidArgument:
        return


@pytest.mark.parametrize("lengths", [[3], [5], [], [4, 1]])
def test_attachments_that_do_not_add_up_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InvalidArgument, match="add up"):
        split_body([AttachmentHeader(length) for length in lengths], b"abcd")


def test_attachments_share_the_memory_of_the_body() -> None:
    body = bytearray(b"abcd")
    first, second = split_body([AttachmentHeader(1), AttachmentHeader(3)], body)
    body[0], body[3] = ord("x"), ord("y")
    assert (bytes(first.data), bytes(second.data)) == (b"x", b"bcy")
