"""JSON Lines: how a store is written down for other programs, and read again.

One object a line, told apart by its fields: `configure` (a collection's limits and text fields), `object`
(a piece of a large object, base64), and an item with `value`, `data` (base64) or `sha256` (of the object
whose pieces came before). Times are seconds since 1970.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from smol.errors import InvalidArgument
from smol.types import Attachment, Json
from smol.units.storage.records import Action, CollectionName, Entry, Key

__all__ = ["Configure", "ItemLine", "Line", "Piece", "item_line", "read_lines", "write_line"]


class Configure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a collection, None where the unit's own hold."""

    configure: CollectionName
    max_items: int | None = None
    max_bytes: int | None = None
    text_fields: list[str] = []


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of the object with the SHA-256 `object`."""

    object: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    start: Annotated[int, Meta(ge=0)]
    data: str


class ItemLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An item. Exactly one of value, data and sha256."""

    key: Key
    collection: CollectionName = "default"
    value: Json | UnsetType = UNSET
    data: str | None = None
    sha256: str | None = None
    media_type: str = "application/octet-stream"
    name: str | None = None
    expires_at: float | None = None
    vector: list[float] | None = None

    def action(self, now_seconds: float) -> Action | None:
        """How to put it; None when it has expired."""
        ttl_seconds = None if self.expires_at is None else self.expires_at - now_seconds
        if ttl_seconds is not None and ttl_seconds <= 0:
            return None
        attachment = None if self.data is None else Attachment(decode(self.data), self.media_type, self.name)
        return Action(
            do="put",
            key=self.key,
            collection=self.collection,
            value=None if self.value is UNSET else self.value,
            attachment=attachment,
            ttl_seconds=ttl_seconds,
            vector=self.vector,
        )


Line = Configure | Piece | ItemLine


def write_line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def item_line(entry: Entry, data: bytes | None, vector: bytes | None) -> ItemLine:
    """The line of an entry. data: its bytes, for what is neither JSON nor a large object."""
    common: dict[str, Any] = {
        "key": entry.key,
        "collection": entry.collection,
        "expires_at": entry.expires_at,
        "vector": None if vector is None else list(struct.unpack(f"<{len(vector) // 4}f", vector)),
    }
    if entry.media_type is None:
        return ItemLine(value=entry.value, **common)
    encoded = None if data is None else base64.b64encode(data).decode()
    return ItemLine(data=encoded, sha256=entry.sha256, media_type=entry.media_type, name=entry.name, **common)


def read_lines(text: bytes | bytearray | memoryview) -> Iterator[tuple[int, Line]]:
    """Lines with their numbers from 1, blank ones left out. Raises InvalidArgument naming the line."""
    for number, line in enumerate(bytes(text).splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = msgspec.json.decode(line)
            if not isinstance(fields, dict):
                raise msgspec.ValidationError("expected an object")
            kind: type[Line] = Configure if "configure" in fields else Piece if "object" in fields else ItemLine
            parsed = msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"line {number}: {error}", line=number) from None
        if isinstance(parsed, ItemLine):
            given = (parsed.value is not UNSET) + (parsed.data is not None) + (parsed.sha256 is not None)
            if given != 1:
                raise InvalidArgument(f"line {number}: one of value, data, sha256 is needed", line=number)
        yield number, parsed


def decode(data: str) -> bytes:
    """Raises InvalidArgument for what is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"malformed base64: {error}") from None
