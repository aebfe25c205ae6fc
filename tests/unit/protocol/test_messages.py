from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import CODES, Internal, InvalidArgument, NotFound, ResourceExhausted
from smol.protocol.frames import MIN_HEADER_BYTES
from smol.protocol.messages import (
    MESSAGE_TYPES,
    Call,
    Error,
    Hello,
    Ping,
    UnknownMessage,
    decode_message,
    encode_message,
    error_message,
    to_error,
)


def test_defaults_are_left_out() -> None:
    assert encode_message(Ping()) == b'{"type":"ping"}'
    assert encode_message(Call(id=1, operation="a.b")) == b'{"type":"call","id":1,"operation":"a.b"}'


def test_a_message_comes_back_as_it_was() -> None:
    call = Call(id=3, operation="a.b", arguments=msgspec.Raw(b'{"x":1}'), budget_ms=5, key="k")
    again = decode_message(encode_message(call))
    assert isinstance(again, Call)
    assert bytes(again.arguments) == b'{"x":1}'
    assert msgspec.structs.replace(again, arguments=call.arguments) == call


def test_every_message_has_a_type_of_its_own() -> None:
    assert len(MESSAGE_TYPES) == 17


def test_a_message_of_a_newer_protocol_is_unknown_and_keeps_its_id() -> None:
    assert decode_message(b'{"type":"shard","id":4,"x":[]}') == UnknownMessage("shard", 4)


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b'{"id":1}', b'{"type":"call"}', b'{"type":"x","id":"1"}', b'{"type":"x","y":"\xff"}'],
)
def test_what_is_no_message_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_message(header)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(header: bytes) -> None:
    try:
        decode_message(header)
    except InvalidArgument:
        return


@pytest.mark.parametrize("code", CODES)
def test_an_error_keeps_its_code_message_and_details(code: str) -> None:
    error = to_error(error_message(1, CODES[code]("what", needed_bytes=3)))
    assert (type(error), error.message, error.details) == (CODES[code], "what", {"needed_bytes": 3})


def test_an_unknown_code_is_an_internal_error() -> None:
    assert type(to_error(Error(id=1, code="UNKNOWN", message="?"))) is Internal


@given(st.text(alphabet=st.sampled_from('a\0é\ud800\U0001f600"\\'), max_size=5000))
def test_an_error_always_fits_and_can_always_be_sent(text: str) -> None:
    message = error_message(1, NotFound(text, path=text, deep=[text], number=1))
    header = encode_message(message)
    assert len(header) <= MIN_HEADER_BYTES
    assert decode_message(header) == message


def test_details_that_json_cannot_carry_are_left_out() -> None:
    error = ResourceExhausted("busy", thing=object(), name="\ud800", huge="x" * 10_000, retry_after_ms=5)
    assert error_message(1, error).details == {"retry_after_ms": 5}


def test_a_peer_may_not_ask_for_limits_that_an_error_does_not_fit() -> None:
    with pytest.raises(InvalidArgument):
        decode_message(b'{"type":"hello","protocol":1,"limits":{"header_bytes":100}}')
    assert isinstance(decode_message(b'{"type":"hello","protocol":1,"limits":{"header_bytes":16384}}'), Hello)
