"""The one-line form: `detect.image photo.jpg | storage.put key=last`, calls that hand on their result.

Words are an operation, then arguments by position or as `name=value`; quotes hold a word together. The
result of a call becomes the first required argument that the next one is not given, else its `value`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from smol.client.arguments import takes_attachment, with_attachments
from smol.errors import InvalidArgument, NotFound, SmolError, nearest
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.types import Attachment, Json

__all__ = ["Word", "compile_line", "split_line"]


class Word(msgspec.Struct, frozen=True):
    """A word of the line and where it starts."""

    text: str
    start: int


def split_line(line: str) -> list[list[Word]]:
    """The words of each call. Raises InvalidArgument that points at what is wrong."""
    calls: list[list[Word]] = [[]]
    text, start, quote = "", -1, ""
    for index, character in enumerate(line + " "):
        if quote:
            quote, text = ("", text) if character == quote else (quote, text + character)
        elif character in "\"'" and index < len(line):
            quote, start = character, index if start < 0 else start
        elif character.isspace() or character == "|":
            if start >= 0:
                calls[-1].append(Word(text, start))
            text, start = "", -1
            if character == "|":
                if not calls[-1]:
                    raise _pointing(line, Word("|", index), "there is no call before this")
                calls.append([])
        else:
            text, start = text + character, index if start < 0 else start
    if quote:
        raise _pointing(line, Word("", start), "this quote is not closed")
    if not calls[-1]:
        raise _pointing(line, Word("", len(line)), "a call is missing here")
    return calls


def compile_line(
    line: str, describe: Callable[[str], UnitDescription]
) -> tuple[dict[str, Json], dict[str, Attachment]]:
    """A program for the executor, and the files that it refers to as `input`."""
    steps: list[dict[str, Json]] = []
    files: dict[str, Attachment] = {}
    for number, words in enumerate(split_line(line)):
        operation = _operation(line, words[0], describe)
        arguments: dict[str, Json] = {}
        for word in words[1:]:
            name, value = _argument(line, word, operation, arguments)
            if isinstance(value, Attachment):
                files[f"file{len(files)}"] = value
                value = f"${{{{ input.file{len(files) - 1} }}}}"
            arguments[name] = value
        if number:
            target = _receiver(line, words[0], operation, arguments)
            arguments[target] = f"${{{{ steps.call{number - 1} }}}}"
        steps.append({"id": f"call{number}", "call": words[0].text, "with": arguments})
    return {"steps": steps}, files


def _operation(line: str, word: Word, describe: Callable[[str], UnitDescription]) -> OperationDescription:
    unit, dot, name = word.text.partition(".")
    if not dot:
        raise _pointing(line, word, "not an operation: write unit.operation, as math.evaluate")
    try:
        operations = {entry.name: entry for entry in describe(unit).operations}
    except NotFound as error:
        raise _pointing(line, word, error.message) from None
    if name not in operations:
        raise _pointing(line, word, f"unit {unit!r} has no operation {name!r}{nearest(name, operations)}")
    return operations[name]


def _argument(
    line: str, word: Word, operation: OperationDescription, given: Mapping[str, Json]
) -> tuple[str, Any]:
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    name, equals, text = word.text.partition("=")
    if not (equals and name.isidentifier()):
        free = [key for key in properties if key not in given]
        if not free:
            raise _pointing(line, word, f"{operation.name} takes no more than {len(properties)} arguments")
        name, text = free[0], word.text
    elif name not in properties:
        raise _pointing(line, word, f"{operation.name} has no argument {name!r}{nearest(name, properties)}")
    elif name in given:
        raise _pointing(line, word, f"the argument {name!r} is there twice")
    try:
        return name, _value(text, properties[name])
    except SmolError as error:
        raise _pointing(line, word, error.message) from None


def _value(text: str, schema: Json) -> Any:
    if takes_attachment(schema):
        return with_attachments(text, schema)
    kinds = [choice.get("type") for choice in (schema, *schema.get("anyOf", ())) if isinstance(choice, dict)]
    if "string" in kinds:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _receiver(line: str, word: Word, operation: OperationDescription, given: Mapping[str, Json]) -> str:
    required = [name for name in operation.input.get("required", ()) if name not in given]
    if required:
        return str(required[0])
    properties = operation.input.get("properties", {})
    if "value" in properties and "value" not in given:
        return "value"
    raise _pointing(line, word, "nothing is left that could take the result of the call before")


def _pointing(line: str, word: Word, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"{problem}\n  {line}\n  {' ' * word.start}{'^' * max(1, len(word.text))}", at=word.start
    )
