"""From a method to an operation: its input type, its JSON Schemas and its documentation.

The method's annotations and docstring are the only source.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from smol.errors import InvalidArgument, nearest
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.protocol.payload import PLACEHOLDER, restore
from smol.sdk.context import Context
from smol.sdk.unit import OPERATION_ATTRIBUTE, Flags, Unit
from smol.types import Attachment, Json

__all__ = ["Operation", "describe", "operations_of"]

_PARAMETER = re.compile(r"^([a-z_][a-z0-9_]*): (.+)$")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


class Operation:
    """One operation of a unit, ready to be called.

    description: what its callers are told; streaming: whether it is an async generator;
    threaded: whether it runs in a thread.
    """

    def __init__(self, unit: str, method: Callable[..., Any]) -> None:
        function = inspect.unwrap(method)
        flags: Flags = getattr(function, OPERATION_ATTRIBUTE)
        name = function.__name__
        where = f"{unit}.{name}"
        hints = _hints(function, where)
        returned = hints.pop("return", None)
        summary, description, documented = parse_docstring(inspect.getdoc(function) or "")
        self.method = method
        self.streaming = inspect.isasyncgenfunction(function)
        self.threaded = not self.streaming and not inspect.iscoroutinefunction(function)
        self.context_parameter = next((key for key, hint in hints.items() if hint is Context), None)
        self.input = _input_type(where, function, hints, documented)
        self._uses_attachments = False
        self.description = OperationDescription(
            name=name,
            summary=summary,
            description=description,
            input=self._schema(self.input, where),
            output=self._schema(_item_type(returned) if self.streaming else returned, where),
            streaming=self.streaming,
            idempotent=flags.idempotent,
            read_only=flags.read_only,
            destructive=flags.destructive,
        )
        self._fields = self.input.__struct_fields__
        self._decoder = msgspec.json.Decoder(self.input)

    def decode(self, data: msgspec.Raw, attachments: Sequence[Attachment]) -> dict[str, Any]:
        """The arguments in `data`, checked. Raises InvalidArgument naming the argument that is wrong."""
        try:
            if not self._uses_attachments:
                arguments = self._decoder.decode(data)
            else:
                arguments = msgspec.json.decode(
                    data, type=self.input, dec_hook=lambda kind, value: _restore(kind, value, attachments)
                )
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(self._explain(str(error))) from None
        return {name: getattr(arguments, name) for name in self._fields}

    def _explain(self, text: str) -> str:
        text = text.replace(" - at `$.", " in argument `").replace(" - at `$`", "")
        unknown = _UNKNOWN_FIELD.search(text)
        if unknown is not None and " in argument " not in text:
            known = ", ".join(self._fields) or "none"
            return f"unknown argument {unknown[1]!r}{nearest(unknown[1], self._fields)}; known: {known}"
        if text.startswith("Object missing required field `"):
            return text.replace("Object missing required field", "missing argument")
        return text

    def _schema(self, kind: Any, where: str) -> dict[str, Json]:
        def attachment_schema(custom: type) -> dict[str, Json]:
            if custom is not Attachment:
                raise TypeError(f"{where}: {custom!r} has no schema; use JSON types, msgspec.Struct or Attachment")
            self._uses_attachments = True
            return {
                "type": "object",
                "x-smol-attachment": True,
                "properties": {PLACEHOLDER: {"type": "integer", "minimum": 0}},
                "required": [PLACEHOLDER],
            }

        uses = self._uses_attachments
        schema: dict[str, Json] = _inline(msgspec.json.schema(kind, schema_hook=attachment_schema))
        if kind is not self.input:
            self._uses_attachments = uses  # Results are encoded, never decoded, here.
        if '"contentEncoding"' in msgspec.json.encode(schema).decode():
            raise TypeError(f"{where}: bytes can't be part of JSON; annotate them as Attachment")
        return schema


def operations_of(unit: Unit, name: str) -> dict[str, Operation]:
    """The operations of a unit by name. Raises TypeError when one can't be described."""
    methods = (getattr(unit, key) for key, value in inspect.getmembers_static(type(unit), callable)
               if hasattr(value, OPERATION_ATTRIBUTE))  # fmt: skip
    operations = [Operation(name, method) for method in methods]
    return {operation.description.name: operation for operation in operations}


def describe(unit: Unit, name: str, version: str, operations: dict[str, Operation]) -> UnitDescription:
    """What a unit tells its host."""
    summary = (inspect.getdoc(type(unit)) or "").partition("\n")[0]
    return UnitDescription(name, version, summary, [operation.description for operation in operations.values()])


def parse_docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """Summary (the first paragraph on one line), the rest, and what is said of each parameter."""
    head, _, tail = text.partition("\n\n")
    summary = " ".join(head.split())
    kept: list[str] = []
    documented: dict[str, str] = {}
    current: str | None = None
    for line in tail.splitlines():
        parameter = _PARAMETER.match(line)
        if parameter is not None:
            current = parameter[1]
            documented[current] = parameter[2].strip()
        elif current is not None and line.strip():
            documented[current] += f" {line.strip()}"
        else:
            current = None
            kept.append(line)
    return summary, "\n".join(kept).strip(), documented


def _hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: an annotation can't be resolved: {error}") from error


def _input_type(
    where: str, function: Callable[..., Any], hints: dict[str, Any], documented: dict[str, str]
) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where}: *{name} has no schema; name each parameter")
        if name not in hints:
            raise TypeError(f"{where}: parameter {name!r} needs an annotation")
        if hints[name] is Context:
            continue
        kind = hints[name]
        if name in documented:
            kind = Annotated[kind, msgspec.Meta(description=documented[name])]
        if parameter.default is parameter.empty:
            fields.append((name, kind))
        else:
            fields.append((name, kind, parameter.default))
    # Named `_Input` rather than after the operation: it shows in no message, only in schemas.
    return msgspec.defstruct("Input", fields, kw_only=True, forbid_unknown_fields=True, module=__name__)


def _item_type(returned: Any) -> Any:
    if get_origin(returned) in (collections.abc.AsyncIterator, collections.abc.AsyncGenerator):
        return get_args(returned)[0]
    raise TypeError(f"a streaming operation returns AsyncIterator[...], not {returned!r}")


def _restore(kind: type, value: Json, attachments: Sequence[Attachment]) -> Any:
    try:
        return restore(value, attachments)
    except InvalidArgument as error:
        raise ValueError(error.message) from None


def _inline(schema: dict[str, Json]) -> dict[str, Json]:
    """Put the top definition at the top, so that `properties` stand where readers look for them."""
    reference = schema.get("$ref", "")
    definitions = dict(schema.get("$defs", {}))
    top = definitions.pop(reference.removeprefix("#/$defs/"), None)
    if top is None or f'"{reference}"'.encode() in msgspec.json.encode([top, definitions]):
        return schema
    return {**top, "$defs": definitions} if definitions else top
