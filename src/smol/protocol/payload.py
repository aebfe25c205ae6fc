"""Values with attachments: JSON in which `{"$attachment": n}` stands for the n-th attachment of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from smol.errors import InvalidArgument
from smol.protocol.frames import Buffer
from smol.protocol.messages import AttachmentHeader
from smol.types import Attachment, Json

__all__ = ["PLACEHOLDER", "check_body", "decode_payload", "encode_payload", "restore", "split_body"]

PLACEHOLDER = "$attachment"

_encoder = msgspec.json.Encoder()


def encode_payload(value: Any) -> tuple[msgspec.Raw, list[AttachmentHeader], list[Buffer]]:
    """JSON of `value`, with the headers and bytes of the attachments met in it.

    Raises InvalidArgument for what JSON can't carry.
    """
    try:
        return msgspec.Raw(_encoder.encode(value)), [], []
    except TypeError:
        return _encode_with_attachments(value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"a value that JSON can't carry: {error}") from None


def _encode_with_attachments(value: Any) -> tuple[msgspec.Raw, list[AttachmentHeader], list[Buffer]]:
    headers: list[AttachmentHeader] = []
    body: list[Buffer] = []

    def replace(item: Any) -> Json:
        if not isinstance(item, Attachment):
            raise InvalidArgument(
                f"a value of type {type(item).__name__} can't be sent: use JSON types or Attachment"
            )
        data = _flat(item.data)
        headers.append(AttachmentHeader(len(data), item.media_type, item.name))
        body.append(data)
        return {PLACEHOLDER: len(body) - 1}

    try:
        data = msgspec.json.encode(value, enc_hook=replace)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a value that JSON can't carry: {error}") from None
    return msgspec.Raw(data), headers, body


def _flat(data: Buffer) -> Buffer:
    """`data` as a row of bytes, copied only if it is not one already."""
    if type(data) is bytes:
        return data
    try:
        view = memoryview(data)
    except TypeError:
        raise InvalidArgument(f"an attachment of {type(data).__name__}: its data must be bytes") from None
    if not view.c_contiguous:
        return view.tobytes()
    return view.cast("B") if view.nbytes else b""


def split_body(headers: Sequence[AttachmentHeader], body: Buffer) -> list[Attachment]:
    """The attachments in a body. Raises InvalidArgument when the lengths do not add up."""
    if not headers and not len(body):
        return []
    check_body(headers, len(body))
    view = memoryview(body)
    attachments, start = [], 0
    for header in headers:
        attachments.append(Attachment(view[start : start + header.bytes], header.media_type, header.name))
        start += header.bytes
    return attachments


def check_body(headers: Sequence[AttachmentHeader], body_bytes: int) -> None:
    """Raises InvalidArgument when attachments do not add up to their body."""
    if sum(header.bytes for header in headers) != body_bytes:
        raise InvalidArgument(
            f"{len(headers)} attachments of {sum(header.bytes for header in headers)} bytes "
            f"do not add up to a body of {body_bytes}"
        )


def restore(value: Json, attachments: Sequence[Attachment]) -> Attachment:
    """The attachment that a placeholder stands for. Raises InvalidArgument when there is none."""
    index = value.get(PLACEHOLDER) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(attachments):
        raise InvalidArgument(
            f'expected an attachment as {{"{PLACEHOLDER}": index}} with one of {len(attachments)} attachments'
        )
    return attachments[index]


def decode_payload(data: msgspec.Raw, attachments: Sequence[Attachment]) -> Json:
    """The plain value of `data`, with its placeholders replaced."""
    try:
        value = msgspec.json.decode(data)
        return _replace(value, attachments) if attachments else value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"malformed JSON: {error}") from None


def _replace(value: Json, attachments: Sequence[Attachment]) -> Json:
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            return restore(value, attachments)
        return {key: _replace(item, attachments) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, attachments) for item in value]
    return value
