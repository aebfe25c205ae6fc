"""Parts that the requests of several APIs share: how they are decoded, pictures, tools, formats."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from smol.sdk.refusal import refused_choice
from smol.types import Attachment, Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import Choice, Tool
from smol.units.openai.tools import check_schema

__all__ = ["Pictures", "decode_request", "read_choice", "read_format", "read_stop", "read_tool", "refuse_given"]

T = TypeVar("T")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

Pictures = Callable[[str, str], Attachment]
"""The bytes of an uploaded file by its id; the second argument names the parameter."""


def decode_request(body: bytes, kind: type[T]) -> T:
    """A request of this kind. Raises Refusal 400, with the parameter that is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if refused := refused_choice(str(error), kind):
            raise Refusal(400, " ".join(refused), param=refused[0]) from None
        text, _, path = str(error).partition(" - at `$")
        inner = path.strip("`.")
        named = _UNKNOWN.search(text) or _MISSING.search(text)
        param = ".".join(part for part in (inner, named[1] if named else "") if part) or None
        if named is not None and _UNKNOWN.search(text):
            raise Refusal(400, f"unrecognized request argument: {param}", param=param) from None
        raise Refusal(400, f"{text}{f' in {inner}' if inner else ''}", param=param) from None


def refuse_given(values: Mapping[str, Any]) -> None:
    """Raises Refusal 400 for the first parameter that is set and that no answer could honour."""
    for name, value in values.items():
        if value:
            raise Refusal(400, f"{name} is not supported by this model", name="unsupported_parameter", param=name)


def read_tool(name: str, description: str | None, parameters: Any, param: str) -> Tool:
    """A function. Raises Refusal 400 for a name or parameters that are none."""
    if not _NAME.match(name):
        raise Refusal(400, f"{param}.name must be 1 to 64 letters, digits, _ or -", param=f"{param}.name")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refusal(400, f"{param}.parameters must be a JSON Schema", param=f"{param}.parameters")
    return Tool(name=name, description=description or "", parameters=parameters or {})


def read_choice(choice: Json, param: str = "tool_choice") -> Choice:
    """OpenAI's `tool_choice`, of both its APIs. Raises Refusal 400."""
    if choice is None:
        return Choice()
    if choice in ("none", "auto", "required"):
        return Choice(choice)
    if isinstance(choice, dict) and choice.get("type") == "function":
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if isinstance(name, str):
            return Choice("required", name)
    raise Refusal(400, f"{param} must be 'none', 'auto', 'required' or a function", param=param)


def read_format(kind: str, schema: Json, strict: bool | None, param: str) -> dict[str, Json] | None:
    """The schema of an answer: None for text, {} for any object. Raises Refusal 400."""
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    if kind == "json_schema":
        if not isinstance(schema, dict):
            raise Refusal(400, f"{param} needs a schema", param=f"{param}.schema")
        check_schema(schema, f"{param}.schema")
        return schema
    raise Refusal(
        400, f"{param}.type must be text, json_object or json_schema, not {kind!r}", param=f"{param}.type"
    )


def read_stop(stop: str | list[str] | None) -> list[str]:
    """Up to four texts to stop at. Raises Refusal 400."""
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if len(stops) > 4:
        raise Refusal(400, f"stop has {len(stops)} texts, at most 4 are possible", param="stop")
    return stops
