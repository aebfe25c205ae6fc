"""From a request's body to an operation's arguments: JSON, or a form with files.

A path never becomes a file here: what a client wants read it sends itself.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from smol.client.arguments import takes_attachment
from smol.protocol.messages import OperationDescription
from smol.protocol.payload import PLACEHOLDER, restore
from smol.types import Attachment, Json
from smol.units.gateway.forms import Part, read_form
from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Bodies, Receive, Visit, decode_json

__all__ = [
    "as_text_schema",
    "data_uri",
    "from_data_uri",
    "holds_attachment",
    "read_arguments",
    "with_attachments",
]

ARGUMENTS_PART = "arguments"
_ACCEPTED = {"accept-post": "application/json, multipart/form-data"}
_DATA_URI = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)?(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)


async def read_arguments(
    visit: Visit, receive: Receive, bodies: Bodies, operation: OperationDescription
) -> dict[str, Any]:
    """The arguments in a body. Raises Refusal 415 for another type, 400 for what can't be read."""
    kind = visit.media_type
    if kind == b"multipart/form-data":
        return _from_form(await read_form(visit, receive, bodies), operation)
    body = await bodies.read(visit, receive)
    if kind not in (b"application/json", b"") or (not kind and body):
        raise Refusal(
            415,
            "send application/json, or multipart/form-data with files",
            headers=_ACCEPTED,
        )
    return _from_json(body, operation)


def _from_json(body: bytes, operation: OperationDescription) -> dict[str, Any]:
    arguments = decode_json(body) if body.strip() else {}
    if not isinstance(arguments, dict):
        raise Refusal(400, f"the body must be an object of arguments, not {_kind(arguments)}")
    return with_attachments(arguments, operation)


def _attached(value: Any, schema: Json, where: str) -> Any:
    """`value`, with data URIs as attachments where the schema wants some."""
    if not isinstance(schema, dict):
        return value
    if isinstance(value, str):
        return from_data_uri(value, where) if takes_attachment(schema) else value
    choices = _choices(schema)
    if isinstance(value, list):
        items = next((choice["items"] for choice in choices if "items" in choice), None)
        return [_attached(item, items, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        more = next(
            (choice["additionalProperties"] for choice in choices if "additionalProperties" in choice), None
        )
        return {name: _attached(item, more, f"{where}.{name}") for name, item in value.items()}
    return value


def with_attachments(arguments: Mapping[str, Any], operation: OperationDescription) -> dict[str, Any]:
    """Arguments in which data: URIs are attachments, where the operation takes some. Raises Refusal 400."""
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    return {name: _attached(value, properties.get(name), name) for name, value in arguments.items()}


def as_text_schema(schema: Json) -> Json:
    """A schema in which attachments are what JSON carries in their place: data: URIs."""
    if isinstance(schema, list):
        return [as_text_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-smol-attachment"):
        kept = {"description": schema["description"]} if "description" in schema else {}
        return {"type": "string", "pattern": "^data:.*;base64,", "description": "bytes as a data: URI", **kept}
    return {key: as_text_schema(item) for key, item in schema.items()}


def holds_attachment(schema: Json) -> bool:
    """Whether there is an attachment anywhere in a schema."""
    if isinstance(schema, list):
        return any(holds_attachment(item) for item in schema)
    if not isinstance(schema, dict):
        return False
    return bool(schema.get("x-smol-attachment")) or any(holds_attachment(item) for item in schema.values())


def from_data_uri(text: str, where: str) -> Attachment:
    """The bytes of a `data:` URI. Raises Refusal 400 for anything else: addresses and paths are not fetched."""
    found = _DATA_URI.match(text)
    if found is None:
        raise Refusal(
            400,
            f"{where}: send a data: URI with base64 ('data:image/jpeg;base64,…'), or a form with files; "
            f"addresses and paths are not read here",
            param=where,
        )
    try:
        data = base64.b64decode(text[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{where}: the base64 of the data: URI is broken", param=where) from None
    return Attachment(data, found[1] or "application/octet-stream")


def data_uri(attachment: Attachment) -> str:
    """An attachment as text, where it stands inside of JSON."""
    return f"data:{attachment.media_type};base64,{base64.b64encode(attachment.data).decode()}"


def _from_form(parts: list[Part], operation: OperationDescription) -> dict[str, Any]:
    """Files by the names of parameters; other fields as JSON or, where text is wanted, as they stand."""
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    arguments: dict[str, Any] = {}
    files: list[Attachment] = []
    named: list[tuple[str, Attachment]] = []
    for part in parts:
        if part.file is not None:
            attachment = Attachment(part.data, part.media_type, part.file or None)
            files.append(attachment)
            named.append((part.name, attachment))
        elif part.name == ARGUMENTS_PART and ARGUMENTS_PART not in properties:
            given = decode_json(bytes(part.data))
            if not isinstance(given, dict):
                raise Refusal(400, f"the field {ARGUMENTS_PART!r} must be an object, not {_kind(given)}")
            arguments |= given
        else:
            value = _field(bytes(part.data), properties.get(part.name, {}))
            if value is not None and not isinstance(value, list) and _is_list(properties.get(part.name, {})):
                value = [*(arguments.get(part.name) or ()), value]
            arguments[part.name] = value
    arguments = _placed(with_attachments(arguments, operation), files)
    for name, attachment in named:
        schema = properties.get(name)
        if isinstance(schema, dict) and not takes_attachment(schema) and _is_list(schema):
            arguments.setdefault(name, []).append(attachment)
        elif schema is not None or not _refers(arguments, attachment):
            arguments[name] = attachment
    return arguments


def _field(data: bytes, schema: Json) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "a field of the form is not UTF-8; send bytes as a file") from None
    choices = _choices(schema)
    kinds = {choice.get("type") for choice in choices}
    if "string" in kinds or any("enum" in choice for choice in choices):
        return text
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return text


def _placed(value: Any, files: list[Attachment]) -> Any:
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            return restore(value, files)
        return {name: _placed(item, files) for name, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, files) for item in value]
    return value


def _refers(value: Any, attachment: Attachment) -> bool:
    if isinstance(value, dict):
        return any(_refers(item, attachment) for item in value.values())
    if isinstance(value, list):
        return any(_refers(item, attachment) for item in value)
    return value is attachment


def _choices(schema: Json) -> list[dict[str, Json]]:
    """A schema and those of which it allows any; a schema may also be just true."""
    if not isinstance(schema, dict):
        return []
    return [choice for choice in (schema, *schema.get("anyOf", ())) if isinstance(choice, dict)]


def _is_list(schema: Json) -> bool:
    return any(choice.get("type") == "array" for choice in _choices(schema))


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
    }
    return names.get(type(value), "an object")
