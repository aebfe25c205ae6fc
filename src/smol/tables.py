"""TOML tables into frozen structs, with errors that name the file, the line, the key and the value.

Covers what manifests and settings share: unknown keys are refused with the nearest known one, a
`Size` may be written as `"24MiB"`, a `Path` is made absolute. Does not read files.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from smol.errors import InvalidArgument, nearest
from smol.sizes import parse_bytes
from smol.types import Json

__all__ = ["INTERNAL", "Source", "decode", "decode_value", "is_size", "parse", "variants"]

T = TypeVar("T", bound=msgspec.Struct)

INTERNAL = msgspec.Meta(extra={"internal": True})
"""Marks a field that the program fills and a table must not."""

LONGEST_VALUE = 60


class Source(msgspec.Struct, frozen=True):
    """Where a table came from.

    where: named in errors, usually a file.
    text: the TOML, if lines are to be named.
    base: directory that relative paths start from.
    """

    where: str
    text: str = ""
    base: Path = Path()

    def error(self, keys: tuple[str, ...], reason: str) -> InvalidArgument:
        """An error at the key; keys may be empty."""
        line = line_of(self.text, keys)
        place = self.where if line is None else f"{self.where}:{line}"
        return InvalidArgument(": ".join(part for part in (place, ".".join(keys), reason) if part))


def parse(text: str, where: str) -> dict[str, Json]:
    """The table in a TOML document. Raises `InvalidArgument`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{where}: not valid TOML: {error}") from None
    except RecursionError:
        raise InvalidArgument(f"{where}: not valid TOML: nested too deeply") from None


def decode(table: Mapping[str, Json], kind: type[T], source: Source) -> T:
    """The struct that `table` describes. Raises `InvalidArgument` for the first thing wrong in it."""
    prepared = _prepare(table, kind, (), source)
    try:
        return msgspec.convert(prepared, kind, dec_hook=_path_from(source.base))
    except msgspec.ValidationError as error:
        raise _explain(error, prepared, source) from None


def decode_value(value: Json, annotation: Any, source: Source, *, strict: bool = True) -> Any:
    """One value of a type; not `strict` reads numbers and booleans from text. Raises `InvalidArgument`."""
    prepared = _prepare(value, annotation, (), source)
    try:
        return msgspec.convert(prepared, annotation, strict=strict, dec_hook=_path_from(source.base))
    except msgspec.ValidationError as error:
        raise _explain(error, prepared, source) from None


def variants(annotation: Any) -> Iterator[Any]:
    """The types that an annotation admits, without `Annotated`, unions and type aliases around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from variants(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from variants(argument)
    else:
        yield annotation


def marks(annotation: Any) -> Iterator[str]:
    """Names set in the `extra` of the annotation's `msgspec.Meta`, also inside a union."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extras = get_args(annotation)
        for extra in extras:
            if isinstance(extra, msgspec.Meta):
                yield from extra.extra or ()
        yield from marks(inner)
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from marks(argument)


def is_size(annotation: Any) -> bool:
    """Whether the annotation is `smol.sizes.Size`, alone or in a union."""
    return "size" in marks(annotation)


def line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The line (from 1) that sets the key, or begins the table, of that name; None if not found.

    A plain scan for headers and `key =`: enough to help a reader, not a parser.
    """
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines() if keys else (), 1):
        if header := re.match(r"\s*\[+([^\]\[]+)\]", line):
            table = _dotted(header[1])
            found = table
        elif entry := re.match(r"\s*([A-Za-z0-9_\-.\"' ]+?)\s*=", line):
            found = table + _dotted(entry[1])
        else:
            continue
        if found[: len(keys)] == keys:
            return number
    return None


def _dotted(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _prepare(value: Json, annotation: Any, keys: tuple[str, ...], source: Source) -> Json:
    """`value` with its sizes read; refuses unknown keys and choices, which msgspec cannot hint at."""
    if isinstance(value, str) and is_size(annotation):
        try:
            return parse_bytes(value)
        except InvalidArgument as error:
            raise source.error(keys, error.message) from None
    for kind in variants(annotation):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, Mapping):
            return _prepare_struct(value, kind, keys, source)
        if get_origin(kind) is Literal and isinstance(value, str) and value not in get_args(kind):
            choices = ", ".join(repr(choice) for choice in get_args(kind))
            hint = nearest(value, (str(choice) for choice in get_args(kind)))
            raise source.error(keys, f"expected one of {choices}, got {_shown(value)}{hint}")
    return value


def _prepare_struct(
    table: Mapping[str, Json], kind: type[msgspec.Struct], keys: tuple[str, ...], source: Source
) -> dict[str, Json]:
    fields = {
        field.encode_name: field.type
        for field in msgspec.structs.fields(kind)
        if "internal" not in marks(field.type)
    }
    prepared = {}
    for key, value in table.items():
        if key not in fields:
            raise source.error((*keys, key), f"unknown key{nearest(key, fields)}; known: {', '.join(fields)}")
        prepared[key] = _prepare(value, fields[key], (*keys, key), source)
    return prepared


def _path_from(base: Path) -> Any:
    def convert(kind: type, value: object) -> object:
        if kind is not Path:
            raise NotImplementedError(f"settings cannot hold {kind.__name__}")
        if not isinstance(value, (str, Path)):
            raise TypeError(f"Expected a path, got `{type(value).__name__}`")
        if not str(value) or "\0" in str(value):
            raise ValueError("a path must not be empty or hold a NUL byte")
        try:
            return base.absolute() / Path(value).expanduser()
        except RuntimeError as error:  # no such user
            raise ValueError(str(error)) from None

    return convert


def _explain(error: msgspec.ValidationError, table: Json, source: Source) -> InvalidArgument:
    reason, _, path = str(error).partition(" - at `$")
    parts = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", path)
    keys = tuple(name for name, _ in parts if name)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", reason):
        return source.error(keys, f"the key {missing[1]!r} is missing")
    value = table
    for name, index in parts:
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, ValueError, TypeError, IndexError):
            return source.error(keys, reason)
    shown = "" if isinstance(value, (dict, list)) else f" ({_shown(value)})"
    return source.error(keys, reason[:1].lower() + reason[1:] + shown)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
