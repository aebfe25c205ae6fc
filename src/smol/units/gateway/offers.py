"""Operations as tools for language models: which, what they look like, and their answers as content."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import msgspec

from smol.errors import PermissionDenied
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.sdk.uses import used_by
from smol.sizes import MIB
from smol.types import Attachment, Json
from smol.units.gateway.arguments import as_text_schema, holds_attachment
from smol.units.gateway.operations import HERE_ONLY, PROGRAMS, limit_program
from smol.units.gateway.settings import OfferSettings

__all__ = ["LARGEST_TEXT", "Offer", "content_of", "is_covered", "limit_to", "offers"]

LARGEST_TEXT = 400_000
LARGEST_BLOB_BYTES = 8 * MIB
"""Bytes of a result beyond this are told of, and not sent: a model could not read them."""
_FACES = frozenset({"gateway", "mcp"})


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as a tool. wrapped: its result is put into an object, as `result`."""

    name: str
    operation: str
    described: OperationDescription
    input_schema: dict[str, Json]
    output_schema: dict[str, Json] | None
    wrapped: bool


def offers(
    units: Iterable[UnitDescription], settings: OfferSettings, key_allows: Sequence[str] = ("*",)
) -> dict[str, Offer]:
    """Tools by name, in the order of their names. key_allows: what the client's key covers."""
    found = {}
    for unit in units:
        for operation in unit.operations:
            full = f"{unit.name}.{operation.name}"
            wanted = operation.read_only or is_covered(full, settings.allow)
            excluded = (
                operation.streaming or unit.name in _FACES or full in HERE_ONLY or is_covered(full, settings.deny)
            )
            if wanted and not excluded and is_covered(full, key_allows):
                offer = _offer(full, operation)
                found[offer.name] = offer
    return dict(sorted(found.items()))


def limit_to(known: Mapping[str, Offer], offer: Offer, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call; a program may call what is offered by itself, no more. Raises PermissionDenied."""
    names = sorted(found.operation for found in known.values())
    for used in used_by(offer.described, arguments):
        if used not in names:
            raise PermissionDenied(f"{offer.operation} calls {used} with these arguments, which is no tool here")
    if offer.operation not in PROGRAMS:
        return arguments
    allowed = limit_program(None, arguments, names)["allowed"]
    return {**arguments, "allowed": [name for name in names if is_covered(name, allowed)]}


def is_covered(operation: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns stands for an operation."""
    return any(fnmatchcase(operation, pattern) for pattern in patterns)


def _offer(full: str, operation: OperationDescription) -> Offer:
    taken = as_text_schema(operation.input) or {}
    given = None if holds_attachment(operation.output) else operation.output
    wrapped = given is not None and given.get("type") != "object"
    if given is not None and wrapped:
        definitions = {"$defs": given["$defs"]} if "$defs" in given else {}
        inner = {key: value for key, value in given.items() if key != "$defs"}
        given = {"type": "object", "properties": {"result": inner}, "required": ["result"], **definitions}
    return Offer(
        name=full.replace(".", "_"),
        operation=full,
        described=operation,
        input_schema={"type": "object", "properties": {}, **taken},
        output_schema=given,
        wrapped=wrapped,
    )


def content_of(offer: Offer, value: Json) -> tuple[list[dict[str, Any]], Json]:
    """An answer as content for people, and as structured content where the tool has a schema for it."""
    blobs: list[dict[str, Any]] = []
    text = msgspec.json.encode(_without_bytes(value, blobs)).decode()
    if len(text) > LARGEST_TEXT:
        text = f"{text[:LARGEST_TEXT]}… (the answer has {len(text)} characters: ask for less)"
        return [{"type": "text", "text": text}, *blobs], None
    structured = None
    if offer.output_schema is not None:
        structured = {"result": value} if offer.wrapped else value
    return [{"type": "text", "text": text}, *blobs], structured


def _without_bytes(value: Json, blobs: list[dict[str, Any]]) -> Json:
    if isinstance(value, Attachment):
        if len(value) <= LARGEST_BLOB_BYTES:
            blobs.append(_as_content(value, len(blobs)))
        return f"{len(value)} bytes of {value.media_type}"
    if isinstance(value, Mapping):
        return {name: _without_bytes(item, blobs) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_bytes(item, blobs) for item in value]
    return value


def _as_content(value: Attachment, number: int) -> dict[str, Any]:
    """Bytes as the protocol has them: pictures and sound as such, anything else as an embedded resource."""
    data = base64.b64encode(value.data).decode()
    kind = value.media_type.partition("/")[0]
    if kind in ("image", "audio"):
        return {"type": kind, "data": data, "mimeType": value.media_type}
    uri = f"smol://result/{number}/{quote(value.name or 'bytes')}"
    return {"type": "resource", "resource": {"uri": uri, "mimeType": value.media_type, "blob": data}}
