"""What is said of arguments that do not fit: which one, why, and what would."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from smol.errors import nearest

__all__ = ["explain", "refused_choice"]

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_NO_CHOICE = re.compile(r"Invalid enum value (.+?) - at `\$\.?([^`]*)`$")
_PLACE_IN_CONTAINER = re.compile(r"\[[^]]*\]")


def explain(text: str, arguments: type[msgspec.Struct]) -> str:
    """msgspec's message of what does not decode to `arguments`, in the words of a caller."""
    if text.startswith("Object missing required field `") and " - at " not in text:
        return text.replace("Object missing required field", "missing argument")
    if refused := refused_choice(text, arguments):
        return f"argument `{refused[0]}` {refused[1]}"
    text = text.replace("`Attachment`", "an attachment")
    text = text.replace(" - at `$.", " in argument `").replace(" - at `$`", "")
    unknown = _UNKNOWN_FIELD.search(text)
    if unknown is not None and " in argument " not in text:
        fields = arguments.__struct_fields__
        known = ", ".join(fields) or "none"
        return f"unknown argument {unknown[1]!r}{nearest(unknown[1], fields)}; known: {known}"
    return text


def refused_choice(text: str, kind: Any) -> tuple[str, str] | None:
    """Where msgspec met a value that is none of the choices there, and what to say of it; None for other messages.

    kind: what was to be decoded.
    """
    refused = _NO_CHOICE.search(text)
    if refused is None:
        return None
    value, place = refused.groups()
    names = [name for name in _PLACE_IN_CONTAINER.sub("", place).split(".") if name]
    choices = [str(choice) for choice in _choices(kind, names)]
    hint = nearest(value.strip("'"), choices)
    known = f"; known: {', '.join(choices)}" if choices else ""
    return place, f"can't be {value}{hint}{known}"


def _choices(kind: Any, names: list[str]) -> Iterator[Any]:
    """What may stand at a path of field names; places in lists and maps are no part of it."""
    for part in _parts(kind):
        if names and isinstance(part, type) and issubclass(part, msgspec.Struct):
            yield from _choices(get_type_hints(part).get(names[0]), names[1:])
        elif not names and get_origin(part) is Literal:
            yield from get_args(part)
        elif not names and isinstance(part, type) and issubclass(part, enum.Enum):
            yield from (member.value for member in part)


def _parts(kind: Any) -> Iterator[Any]:
    """The types that an annotation is put together from, through unions, containers and names."""
    if hasattr(kind, "__value__"):  # of a `type` statement
        yield from _parts(kind.__value__)
    elif get_origin(kind) is Literal or not get_args(kind):
        yield kind
    else:
        for argument in get_args(kind):
            yield from _parts(argument)
