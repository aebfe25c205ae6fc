"""Tools without a language model: which one a sentence asks for, and with which arguments.

Rules over words. What a rule can't find is filled so that the schema holds; nothing is made up beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import Ask, Tool, ToolCall, as_json, new_id

__all__ = ["check_schema", "choose", "fill"]

_HONOURED = frozenset(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "$ref",
        "$defs",
        "definitions",
        "description",
        "title",
        "default",
        "additionalProperties",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "examples",
        "$schema",
    ]
)
_DEEPEST = 24
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|'([^']+)'(?!\w)")
_WORDS = re.compile(r"[a-z0-9]+")
_PLACE = re.compile(
    r"\b(?:in|at|for|of|about|from|named|called)\s+((?:the\s+)?[A-Z][\w.-]*(?:[ ,]+[A-Z][\w.-]*)*)"
)
_AFTER = r"\b{name}\b\s*(?:is|are|=|:|of|to|as)?\s*(?:\"([^\"]+)\"|([\w.@-]+))"


def check_schema(schema: Json, where: str, depth: int = 0) -> None:
    """Raises Refusal 400 for a keyword that an answer could not be made to honour."""
    if depth > _DEEPEST:
        raise Refusal(400, f"{where} is deeper than {_DEEPEST} levels", param=where)
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise Refusal(400, f"{where} is not a JSON Schema", param=where)
    unknown = sorted(set(schema) - _HONOURED)
    if unknown:
        raise Refusal(400, f"{where}: the keyword {unknown[0]!r} is not supported", param=where)
    for name in ("properties", "$defs", "definitions"):
        inner = schema.get(name, {})
        if not isinstance(inner, dict):
            raise Refusal(400, f"{where}.{name} is not an object", param=where)
        for key, value in inner.items():
            check_schema(value, f"{where}.{name}.{key}", depth + 1)
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items", depth + 1)
    for index, value in enumerate(schema.get("anyOf", ())):
        check_schema(value, f"{where}.anyOf[{index}]", depth + 1)


def choose(ask: Ask, text: str) -> list[ToolCall]:
    """The calls that a sentence asks for; none when it asks for none, or the caller wants none."""
    if not ask.tools or ask.choice.mode == "none":
        return []
    if ask.choice.name:
        wanted = [tool for tool in ask.tools if tool.name == ask.choice.name]
    else:
        scored = sorted(((-_score(tool, text), index) for index, tool in enumerate(ask.tools)))
        wanted = [ask.tools[index] for score, index in scored if score <= -1.0]
        if not wanted and ask.choice.mode == "required":
            wanted = [ask.tools[scored[0][1]]]
        if not ask.parallel:
            wanted = wanted[:1]
    return [
        ToolCall(new_id("call_"), tool.name, as_json(fill(tool.parameters or {"type": "object"}, text)))
        for tool in wanted
    ]


def _score(tool: Tool, text: str) -> float:
    """At least 1 when every word of the tool's name is in the text, in whatever form."""
    if tool.name in text:
        return 3.0
    said = {_stem(word) for word in _WORDS.findall(text.lower())}
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", tool.name).lower()
    name = [word for word in _WORDS.findall(spaced.replace("_", " ")) if word not in _IDLE]
    if not name:
        return 0.0
    share = sum(_stem(word) in said for word in name) / len(name)
    about = {_stem(word) for word in _WORDS.findall(tool.description.lower()) if len(word) > 3}
    return share + min(0.5, len(about & said) / 10)


_IDLE = frozenset({"get", "fetch", "tool", "function", "current", "the", "a", "do", "run", "my"})


def _stem(word: str) -> str:
    for end in ("ing", "ed", "es", "s", "er"):
        if word.endswith(end) and len(word) > len(end) + 3:
            return word[: -len(end)]
    return word


def fill(schema: Json, text: str, whole: bool = False) -> Any:
    """A value that fits a schema, from what a text says. whole: texts are the whole text."""
    return _Filler(schema if isinstance(schema, dict) else {}, text, whole).value(schema, "", 0)


class _Filler:
    def __init__(self, root: Mapping[str, Json], text: str, whole: bool) -> None:
        self._root = root
        self._text = text
        self._whole = whole
        self._numbers = [found[0] for found in _NUMBER.finditer(text)]
        self._quoted = ["".join(part or "" for part in found) for found in _QUOTED.findall(text)]

    def value(self, schema: Json, name: str, depth: int) -> Any:
        """Any value of this schema."""
        if depth > _DEEPEST or not isinstance(schema, dict):
            return None
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self.value(self._resolve(reference), name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"])
        if schema.get("anyOf"):
            kinds = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
            return self.value(kinds[0], name, depth + 1) if kinds else None
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, kind, name)
        if kind == "boolean":
            return not re.search(
                rf"\b(?:no|not|without|false|off)\b\W*(?:\w+\W+){{0,2}}{re.escape(name)}", self._text
            )
        return None if kind == "null" else self._string(name)

    def _resolve(self, reference: str) -> Json:
        found: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        return found

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Json] = schema.get("properties", {})
        required = schema.get("required", ())
        given: dict[str, Any] = {}
        for name, inner in properties.items():
            if name in required or self._mentions(name, inner):
                given[name] = self.value(inner, name, depth + 1)
        if not properties and schema.get("additionalProperties", True) is not False and self._whole:
            given["answer"] = self._text
        return given

    def _mentions(self, name: str, schema: Json) -> bool:
        if isinstance(schema, dict) and schema.get("enum"):
            return any(isinstance(each, str) and _has_word(self._text, each) for each in schema["enum"])
        return _has_word(self._text, name.replace("_", " "))

    def _array(self, schema: Mapping[str, Json], name: str, depth: int) -> list[Any]:
        items = schema.get("items", {})
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 16))
        kind = items.get("type") if isinstance(items, dict) else None
        if kind in ("integer", "number"):
            found: list[Any] = [self._clamped(number, items, kind) for number in self._numbers]
            self._numbers = []
        elif kind == "string" and not items.get("enum"):
            found = self._quoted or [part for part in re.split(r",\s*|\s+and\s+", self._text) if part]
        else:
            found = [self.value(items, name, depth + 1)]
        while len(found) < least:
            found.append(self.value(items, name, depth + 1))
        return found[:most]

    def _choice(self, options: list[Json]) -> Json:
        for option in options:
            if isinstance(option, str) and _has_word(self._text, option):
                return option
        return options[0]

    def _number(self, schema: Mapping[str, Json], kind: str, name: str) -> float:
        named = re.search(_AFTER.format(name=re.escape(name)), self._text) if name else None
        token = named[2] if named is not None and named[2] and _NUMBER.fullmatch(named[2]) else None
        if token is None:
            token = self._numbers.pop(0) if self._numbers else "0"
        elif token in self._numbers:
            self._numbers.remove(token)
        return self._clamped(token, schema, kind)

    def _clamped(self, token: str, schema: Mapping[str, Json], kind: str) -> float:
        number = float(token) if kind == "number" or "." in token else int(token)
        low, high = schema.get("minimum"), schema.get("maximum")
        number = number if low is None else max(number, low)
        number = number if high is None else min(number, high)
        return int(number) if kind == "integer" else number

    def _string(self, name: str) -> str:
        if self._whole:
            return self._text
        if self._quoted:
            return self._quoted.pop(0)
        named = re.search(_AFTER.format(name=re.escape(name.replace("_", " "))), self._text, re.IGNORECASE)
        if name and named is not None:
            return named[1] or named[2]
        place = _PLACE.search(self._text)
        return place[1].rstrip(" ,.") if place is not None else self._text


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
