"""References: `${{ expression }}` in JMESPath, over a run's input, steps, item, index, registers, error and event.

A text that is one reference becomes the value itself, attachments included; in a longer text each
reference becomes text. There is no other expression language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jmespath
import jmespath.exceptions
import msgspec

from smol.errors import InvalidArgument
from smol.types import Attachment, Json

__all__ = ["ROOTS", "evaluate", "is_true", "names_in", "references_in", "resolve"]

ROOTS = ("input", "steps", "item", "index", "registers", "error", "event")
_REFERENCE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_LONGEST_CHARACTERS = 2000
_NEW_SCOPE_ON_THE_RIGHT = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"}
)


@lru_cache(maxsize=512)
def _compiled(expression: str) -> Any:
    if len(expression) > _LONGEST_CHARACTERS:
        raise InvalidArgument(f"an expression of {len(expression)} characters is beyond {_LONGEST_CHARACTERS}")
    try:
        return jmespath.compile(expression)
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "too deeply nested"
        raise InvalidArgument(f"{expression.strip()!r} is not JMESPath: {reason}") from None


def evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises InvalidArgument."""
    try:
        return _compiled(expression).search(scope)
    except InvalidArgument:
        raise
    except (jmespath.exceptions.JMESPathError, RecursionError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"{expression.strip()!r} has no value: {' '.join(str(error).split())}") from None


def resolve(value: Json, scope: Mapping[str, Any]) -> Json:
    """`value` with its references replaced. Raises InvalidArgument."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value.strip())
        if whole is not None and value.count("${{") == 1:
            return evaluate(whole[1], scope)
        return _REFERENCE.sub(lambda found: _text(found[1], evaluate(found[1], scope)), value)
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if isinstance(value, dict):
        return {key: resolve(item, scope) for key, item in value.items()}
    return value


def is_true(value: Json) -> bool:
    """JMESPath's idea of truth: null, false and what is empty are false; 0 is true."""
    return value is not None and value is not False and value != "" and value != [] and value != {}


def references_in(value: Json) -> Iterator[str]:
    """Every expression in a value, however deep."""
    if isinstance(value, str):
        yield from (found[1] for found in _REFERENCE.finditer(value))
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references_in(item)


def names_in(expression: str) -> set[tuple[str, str]]:
    """What an expression takes from its scope, as (root, next name or ""). Raises InvalidArgument."""
    return set(_names(_compiled(expression).parsed))


def _names(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    children = node.get("children", [])
    kind = node["type"]
    if kind == "field":
        yield node["value"], ""
    elif kind == "subexpression" and children[0]["type"] == "field":
        second = children[1] if len(children) > 1 else {}
        yield children[0]["value"], second["value"] if second.get("type") == "field" else ""
    elif kind != "expref":  # `&name` is about each element of a list.
        for child in children[:1] if kind in _NEW_SCOPE_ON_THE_RIGHT else children:
            if isinstance(child, dict):
                yield from _names(child)


def _text(expression: str, value: Json) -> str:
    if isinstance(value, Attachment):
        raise InvalidArgument(f"{expression.strip()!r} is an attachment: it can't be part of a text")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
