"""From a method to an operation: its input type, its JSON Schemas and its documentation.

The method's annotations and docstring are the only source.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from smol.errors import InvalidArgument
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.protocol.payload import PLACEHOLDER, restore
from smol.sdk.context import Context
from smol.sdk.refusal import explain
from smol.sdk.unit import OPERATION_ATTRIBUTE, Flags, Unit
from smol.types import Attachment, Json

__all__ = ["Operation", "describe", "operations_of"]

_PARAMETER = re.compile(r"^([a-z_][a-z0-9_]*): (.+)$")


class Operation:
    """One operation of a unit, ready to be called.

    streaming: whether it is an async generator; threaded: whether it runs in a thread.
    context_parameter: the parameter that takes the call's context, if there is one.
    """

    def __init__(self, unit: str, method: Callable[..., Any]) -> None:
        """Raises TypeError when its annotations can't be used."""
        function = inspect.unwrap(method)
        self.name: str = function.__name__
        self.method = method
        self.flags: Flags = getattr(function, OPERATION_ATTRIBUTE)
        self.streaming = inspect.isasyncgenfunction(function)
        self.threaded = not self.streaming and not inspect.iscoroutinefunction(function)
        self._where = f"{unit}.{self.name}"
        hints = _hints(function, self._where)
        if "return" not in hints:
            raise TypeError(f"{self._where}: the result needs an annotation; -> None if there is none")
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{self._where}: a streaming operation is an async generator: 'async def' with 'yield'"
            )
        self._returned = hints.pop("return")
        self._documentation = parse_docstring(inspect.getdoc(function) or "", hints)
        self.context_parameter = next((key for key, hint in hints.items() if hint is Context), None)
        self.input = _input_type(self._where, method, hints, self._documentation[2])
        self._decoder = msgspec.json.Decoder(self.input)

    def decode(self, data: msgspec.Raw, attachments: Sequence[Attachment]) -> dict[str, Any]:
        """The arguments in `data`, checked. Raises InvalidArgument naming the argument that is wrong."""
        try:
            if attachments:
                arguments = msgspec.json.decode(
                    data, type=self.input, dec_hook=lambda kind, value: _restore(kind, value, attachments)
                )
            else:
                arguments = self._decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(explain(str(error), self.input)) from None
        return {name: getattr(arguments, name) for name in self.input.__struct_fields__}

    def describe(self, *, schemas: bool) -> OperationDescription:
        """What its callers are told. schemas: with input and output, which cost a worker memory.

        Raises TypeError when its types have no schema.
        """
        summary, description, _ = self._documentation
        return OperationDescription(
            name=self.name,
            summary=summary,
            description=description,
            input=self._schema(self.input) if schemas else {},
            output=self._schema(_item_type(self._returned, self._where) if self.streaming else self._returned)
            if schemas
            else {},
            streaming=self.streaming,
            idempotent=self.flags.idempotent,
            read_only=self.flags.read_only,
            destructive=self.flags.destructive,
        )

    def _schema(self, kind: Any) -> dict[str, Json]:
        try:
            schema = _inline(msgspec.json.schema(kind, schema_hook=self._schema_of_custom))
        except TypeError as error:
            raise TypeError(f"{self._where}: {error}") from error
        if '"contentEncoding"' in msgspec.json.encode(schema).decode():
            raise TypeError(f"{self._where}: bytes can't be part of JSON; annotate them as Attachment")
        return schema

    def _schema_of_custom(self, kind: type) -> dict[str, Json]:
        if kind is not Attachment:
            raise TypeError(f"{kind!r} has no schema; use JSON types, msgspec.Struct or Attachment")
        return {
            "type": "object",
            "x-smol-attachment": True,
            "properties": {PLACEHOLDER: {"type": "integer", "minimum": 0}},
            "required": [PLACEHOLDER],
        }


def operations_of(unit: Unit, name: str) -> dict[str, Operation]:
    """The operations of a unit by name. Raises TypeError when one can't be described."""
    methods = (getattr(unit, key) for key, value in inspect.getmembers_static(type(unit), callable)
               if hasattr(value, OPERATION_ATTRIBUTE))  # fmt: skip
    operations = [Operation(name, method) for method in methods]
    return {operation.name: operation for operation in operations}


def describe(
    unit: Unit, name: str, version: str, operations: Iterable[Operation], *, schemas: bool
) -> UnitDescription:
    """What a unit tells its host. Raises TypeError when an operation can't be described."""
    summary = (inspect.getdoc(type(unit)) or "").partition("\n")[0]
    return UnitDescription(
        name, version, summary, [operation.describe(schemas=schemas) for operation in operations]
    )


def parse_docstring(text: str, parameters: Collection[str]) -> tuple[str, str, dict[str, str]]:
    """Summary (the first paragraph on one line), the rest, and what is said of each of `parameters`."""
    head, _, tail = text.partition("\n\n")
    summary = " ".join(head.split())
    kept: list[str] = []
    documented: dict[str, str] = {}
    current: str | None = None
    for line in tail.splitlines():
        parameter = _PARAMETER.match(line)
        if parameter is not None and parameter[1] in parameters:
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
    where: str, method: Callable[..., Any], hints: dict[str, Any], documented: dict[str, str]
) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where}: *{name} has no schema; name each parameter")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where}: {name!r} is positional only; arguments are passed by name")
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
    try:
        return msgspec.defstruct("Input", fields, kw_only=True, forbid_unknown_fields=True, module=__name__)
    except TypeError as error:  # A default that all calls would share.
        raise TypeError(f"{where}: {error}") from error


def _item_type(returned: Any, where: str) -> Any:
    if get_origin(returned) in (collections.abc.AsyncIterator, collections.abc.AsyncGenerator):
        return get_args(returned)[0]
    raise TypeError(f"{where}: a streaming operation returns AsyncIterator[...], not {returned!r}")


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
