"""Messages: the JSON headers of frames, and the attachments that follow them.

Each message is a JSON object with a `type`. Unknown fields are ignored, so that a newer peer may say
more; an unknown type is answered with `UNIMPLEMENTED`. What may be sent when is `session`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec

from smol.errors import InvalidArgument, SmolError, by_code
from smol.protocol.frames import MAX_BYTES, Limits
from smol.types import Json

__all__ = [
    "MAX_CREDIT",
    "MAX_ID",
    "MESSAGE_TYPES",
    "PROTOCOL_VERSION",
    "AttachmentHeader",
    "Call",
    "Cancel",
    "Credit",
    "Drain",
    "End",
    "Error",
    "Event",
    "Hello",
    "Item",
    "Message",
    "OperationDescription",
    "Ping",
    "Pong",
    "Progress",
    "Publish",
    "Result",
    "Subscribe",
    "UnitDescription",
    "UnknownMessage",
    "Unsubscribe",
    "Welcome",
    "decode_message",
    "encode_message",
    "error_message",
    "to_error",
]

PROTOCOL_VERSION = 1
MAX_ID = 2**53 - 1
"""Every JSON library holds integers up to here exactly."""
MAX_CREDIT = 2**31 - 1
"""Most items that a stream may be allowed at once."""

CallId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]

_ERROR_CHARACTERS = 2000
_ERROR_DETAILS_BYTES = 2000
"""With these an error takes at most 14 KiB of JSON, which every side accepts (MIN_HEADER_BYTES)."""

_EMPTY = msgspec.Raw(b"{}")
_NULL = msgspec.Raw(b"null")


class AttachmentHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attachment: its share of the body, in order."""

    bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)]
    media_type: str = "application/octet-stream"
    name: str | None = None


class OperationDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation as its unit declares it.

    input, output: JSON Schema (2020-12); an attachment is `{"$attachment": index}` and carries
    `"x-smol-attachment": true` in its schema. For a stream, output is the schema of one item.
    """

    name: str
    summary: str = ""
    description: str = ""
    input: dict[str, Json] = {}
    output: dict[str, Json] = {}
    streaming: bool = False
    idempotent: bool = False
    read_only: bool = False
    destructive: bool = False


class UnitDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker serves: a unit's name, version and operations."""

    name: str
    version: str = "0"
    summary: str = ""
    operations: list[OperationDescription] = []


class Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all messages."""


class Hello(Message, frozen=True, tag="hello"):
    """First message of whoever connects. `units` is empty for a client."""

    protocol: int
    name: str = ""
    units: list[UnitDescription] = []
    limits: Limits = Limits()


class Welcome(Message, frozen=True, tag="welcome"):
    """The host's answer to `hello`."""

    protocol: int
    name: str = ""
    limits: Limits = Limits()


class Call(Message, frozen=True, tag="call"):
    """Ask for an operation, `unit.operation`.

    id: chosen by the caller, unique among its calls in flight, 1 or more.
    budget_ms: time left until the deadline, counted from when this message was sent; 0 for none.
    credit: how many items of a stream the caller can take at once; see `credit`.
    trace: W3C traceparent.
    key: idempotency key, handed to the operation.
    caller: the worker that calls, as the host knows it; empty for a client. Only the host's word counts.
    keep_alive_ms: how long the unit stays loaded after this call if nobody calls it; -1 for as long as there is
    room, absent for what is configured.
    """

    id: CallId
    operation: str
    arguments: msgspec.Raw = _EMPTY
    attachments: list[AttachmentHeader] = []
    budget_ms: Count = 0
    credit: Annotated[int, msgspec.Meta(ge=0, le=MAX_CREDIT)] = 0
    trace: str = ""
    key: str = ""
    caller: str = ""
    keep_alive_ms: Annotated[int, msgspec.Meta(ge=-1, le=MAX_ID)] | None = None


class Result(Message, frozen=True, tag="result"):
    """The one answer of a unary call; also acknowledges `subscribe`."""

    id: CallId
    value: msgspec.Raw = _NULL
    attachments: list[AttachmentHeader] = []


class Error(Message, frozen=True, tag="error"):
    """The call `id` failed; with id 0, the connection itself did and is about to be closed."""

    id: Count = 0
    code: str = "INTERNAL"
    message: str = ""
    details: dict[str, Json] = {}


class Item(Message, frozen=True, tag="item"):
    """One item of a stream; uses up one credit."""

    id: CallId
    value: msgspec.Raw = _NULL
    attachments: list[AttachmentHeader] = []


class End(Message, frozen=True, tag="end"):
    """The stream is complete."""

    id: CallId


class Progress(Message, frozen=True, tag="progress"):
    """How far a call has come. fraction: 0 to 1, or below 0 when unknown."""

    id: CallId
    fraction: float = -1.0
    message: str = ""


class Credit(Message, frozen=True, tag="credit"):
    """The caller of a stream can take `items` more."""

    id: CallId
    items: Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]


class Cancel(Message, frozen=True, tag="cancel"):
    """The caller no longer wants the answer; the callee still ends the call."""

    id: CallId
    reason: str = ""


class Publish(Message, frozen=True, tag="publish"):
    """Tell whoever subscribed to `topic`."""

    topic: str
    data: msgspec.Raw = _NULL


class Subscribe(Message, frozen=True, tag="subscribe"):
    """Ask for events of a topic; `*` at the end stands for any rest. `id` is one of the caller's call ids."""

    id: CallId
    topic: str


class Unsubscribe(Message, frozen=True, tag="unsubscribe"):
    """End subscription `id`; the host answers `end`."""

    id: CallId


class Event(Message, frozen=True, tag="event"):
    """An event for subscription `id`. dropped: how many were lost just before this one."""

    id: CallId
    topic: str
    data: msgspec.Raw = _NULL
    dropped: Count = 0


class Ping(Message, frozen=True, tag="ping"):
    """Answer with a `pong` of the same nonce."""

    nonce: Count = 0


class Pong(Message, frozen=True, tag="pong"):
    """The answer to `ping`."""

    nonce: Count = 0


class Drain(Message, frozen=True, tag="drain"):
    """The sender winds down: it takes no new calls, and makes none but for those still in flight.

    A worker that is told so finishes what it has, then hangs up.
    """


class UnknownMessage(msgspec.Struct, frozen=True):
    """A message of a type this side does not know; `id` is 0 when it has none."""

    type: str = ""
    id: int = 0


_Any: TypeAlias = (
    Hello
    | Welcome
    | Call
    | Result
    | Error
    | Item
    | End
    | Progress
    | Credit
    | Cancel
    | Publish
    | Subscribe
    | Unsubscribe
    | Event
    | Ping
    | Pong
    | Drain
)

MESSAGE_TYPES = frozenset(kind.__struct_config__.tag for kind in Message.__subclasses__())

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Any)
_unknown_decoder = msgspec.json.Decoder(UnknownMessage)


def encode_message(message: Message) -> bytes:
    """The JSON header of `message`, UTF-8."""
    return _encoder.encode(message)


def decode_message(header: bytes) -> Message | UnknownMessage:
    """The message in a frame's header. Raises InvalidArgument when it is malformed."""
    try:
        message: Message = _decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _explain(header, error)
    if not header.isascii():
        # Values and unknown fields pass through undecoded: bad UTF-8 in them would surface far from its source.
        _check_text(header)
    return message


def error_message(call_id: int, error: SmolError) -> Error:
    """The message that carries `error` to the caller, cut to a size that every side accepts."""
    text = error.message
    if len(text) > _ERROR_CHARACTERS:
        text = f"{text[:_ERROR_CHARACTERS]}…"
    if not text.isascii():
        # A file name may hold what is no UTF-8.
        text = text.encode("utf-8", "backslashreplace").decode()
    return Error(id=call_id, code=error.code, message=text, details=_carriable(error.details))


def _carriable(details: Mapping[str, Json]) -> dict[str, Json]:
    """Those details that JSON can carry, up to a size."""
    kept: dict[str, Json] = {}
    left_bytes = _ERROR_DETAILS_BYTES
    for key, value in details.items():
        try:
            size = len(_encoder.encode({key: value}))
        except (TypeError, ValueError, RecursionError):
            continue
        if size <= left_bytes:
            kept[key] = value
            left_bytes -= size
    return kept


def to_error(message: Error) -> SmolError:
    """The error that a message carries."""
    return by_code(message.code, message.message, message.details)


def _check_text(header: bytes) -> None:
    try:
        header.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"a frame header that is not UTF-8: {error}") from None


def _explain(header: bytes, error: Exception) -> UnknownMessage:
    try:
        unknown = _unknown_decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArgument(f"a frame header that is not a message: {error}") from None
    if unknown.type in MESSAGE_TYPES or not unknown.type:
        raise InvalidArgument(f"a malformed {unknown.type or 'untyped'} message: {error}") from None
    _check_text(header)
    return unknown
