"""Whether written arguments fit an operation's JSON Schema, as far as that is known before it runs.

Covers the keywords that the SDK's schemas use. A value with a reference in it is known only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smol.errors import nearest
from smol.types import Json
from smol.units.executor.references import references_in

__all__ = ["mismatches"]

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def mismatches(arguments: Mapping[str, Json], schema: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """What is wrong, as (name of the argument or "", what)."""
    properties: Mapping[str, Json] = schema.get("properties", {})
    for name in arguments:
        if name not in properties:
            known = ", ".join(properties) or "none"
            yield name, f"unknown argument {name!r}{nearest(name, properties)}; known: {known}"
    for name in schema.get("required", ()):
        if name not in arguments:
            yield "", f"missing argument {name!r}"
    for name, value in arguments.items():
        if name in properties and (problem := _mismatch(value, properties[name], schema)):
            yield name, problem


def _mismatch(value: Json, schema: Json, root: Mapping[str, Json]) -> str:
    """What is wrong with a value, or an empty string."""
    if isinstance(value, str) and any(True for _ in references_in(value)):
        return ""
    schema = _followed(schema, root)
    if "anyOf" in schema:
        problems = [_mismatch(value, choice, root) for choice in schema["anyOf"]]
        return "" if "" in problems else " and ".join(dict.fromkeys(problems))
    if schema.get("x-smol-attachment"):
        return "an attachment is wanted: refer to one, as ${{ input.photo }}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        return f"{_shown(value)} is not of type {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{_shown(value)} is not one of {', '.join(map(repr, schema['enum']))}"
    return _range_mismatch(value, schema) or _inner_mismatch(value, schema, root)


def _range_mismatch(value: Json, schema: Mapping[str, Json]) -> str:
    if _TYPES["number"](value):
        if value < schema.get("minimum", value):
            return f"{value} is below {schema['minimum']}"
        if value > schema.get("maximum", value):
            return f"{value} is above {schema['maximum']}"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return f"{value} is not above {schema['exclusiveMinimum']}"
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            return f"{value} is not below {schema['exclusiveMaximum']}"
    return ""


def _inner_mismatch(value: Json, schema: Mapping[str, Json], root: Mapping[str, Json]) -> str:
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return next((found for item in value if (found := _mismatch(item, schema["items"], root))), "")
    if isinstance(value, dict) and "properties" in schema:
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            return f"missing {missing[0]!r}"
        properties = schema["properties"]
        return next(
            (
                f"{name}: {found}"
                for name, item in value.items()
                if name in properties and (found := _mismatch(item, properties[name], root))
            ),
            "",
        )
    return ""


def _followed(schema: Json, root: Mapping[str, Json]) -> dict[str, Json]:
    if not isinstance(schema, dict):
        return {}
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    return root.get("$defs", {}).get(name, {}) if name else schema


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
