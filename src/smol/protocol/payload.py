"""Values with attachments: JSON in which `{"$attachment": n}` stands for the n-th attachment of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from smol.errors import InvalidArgument
from smol.protocol.frames import Buffer
from smol.protocol.messages import AttachmentHeader
from smol.types import Attachment, Json

__all__ = ["PLACEHOLDER", "decode_payload", "encode_payload", "restore", "split_body"]

PLACEHOLDER = "$attachment"


def encode_payload(value: Any) -> tuple[msgspec.Raw, list[AttachmentHeader], list[Buffer]]:
    """JSON of `value`, with the headers and bytes of the attachments met in it.

    Raises InvalidArgument for what JSON can't carry.
    """
    found: list[Attachment] = []

    def replace(item: Any) -> Json:
        if isinstance(item, Attachment):
            found.append(item)
            return {PLACEHOLDER: len(found) - 1}
        raise InvalidArgument(f"a value of type {type(item).__name__} can't be sent: use JSON types or Attachment")

    try:
        data = msgspec.json.encode(value, enc_hook=replace)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidArgument(f"a value that JSON can't carry: {error}") from None
    if not found:
        return msgspec.Raw(data), [], []
    headers = [AttachmentHeader(len(item), item.media_type, item.name) for item in found]
    return msgspec.Raw(data), headers, [item.data for item in found]


def split_body(headers: Sequence[AttachmentHeader], body: Buffer) -> list[Attachment]:
    """The attachments in a body. Raises InvalidArgument when the lengths do not add up."""
    if not headers and not len(body):
        return []
    if any(header.bytes < 0 for header in headers) or sum(header.bytes for header in headers) != len(body):
        raise InvalidArgument(
            f"attachments of {[header.bytes for header in headers]} bytes do not add up to a body of {len(body)}"
        )
    view = memoryview(body)
    attachments, start = [], 0
    for header in headers:
        attachments.append(Attachment(view[start : start + header.bytes], header.media_type, header.name))
        start += header.bytes
    return attachments


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
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"malformed JSON: {error}") from None
    return _replace(value, attachments) if attachments else value


def _replace(value: Json, attachments: Sequence[Attachment]) -> Json:
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            return restore(value, attachments)
        return {key: _replace(item, attachments) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, attachments) for item in value]
    return value
