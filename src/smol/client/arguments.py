"""From what a person passes to what an operation takes: positions become names, files become attachments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smol.errors import InvalidArgument, NotFound
from smol.protocol.messages import OperationDescription
from smol.types import Attachment, Json

__all__ = ["bind", "takes_attachment", "with_attachments"]


def bind(
    where: str, operation: OperationDescription, positional: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments by name, with files read. Raises InvalidArgument for too many, NotFound for a missing file."""
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    if len(positional) > len(properties):
        raise InvalidArgument(
            f"{where} takes {len(properties)} arguments ({', '.join(properties)}), got {len(positional)}"
        )
    arguments = dict(zip(properties, positional, strict=False))
    twice = next((name for name in named if name in arguments), None)
    if twice is not None:
        raise InvalidArgument(f"{where}: argument {twice!r} is given by position and by name")
    arguments.update(named)
    return {name: with_attachments(value, properties.get(name, {})) for name, value in arguments.items()}


def takes_attachment(schema: Json) -> bool:
    """Whether a value of this schema is an attachment, or may be one."""
    if not isinstance(schema, dict):
        return False
    if schema.get("x-smol-attachment"):
        return True
    return any(takes_attachment(choice) for choice in schema.get("anyOf", ()))


def with_attachments(value: Any, schema: Json) -> Any:
    """Replace bytes, and paths where the schema wants an attachment. A leading `@` of a path is dropped."""
    if isinstance(value, bytes | bytearray | memoryview):
        return Attachment(value)
    if isinstance(value, Path):
        return _read(value)
    if isinstance(value, str) and takes_attachment(schema):
        return _read(value.removeprefix("@"))
    if isinstance(value, list | tuple) and isinstance(schema, dict):
        choices = [schema, *schema.get("anyOf", ())]
        items: Json = next((choice["items"] for choice in choices if "items" in choice), {})
        return [with_attachments(item, items) for item in value]
    return value


def _read(path: str | os.PathLike[str]) -> Attachment:
    try:
        return Attachment.from_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no file {os.fspath(path)!r}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(f"file {os.fspath(path)!r} can't be read: {reason}") from None
