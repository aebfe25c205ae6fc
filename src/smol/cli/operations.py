"""Units as commands and their operations as subcommands, made from the operations' schemas."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import click
import msgspec
from click.core import ParameterSource

from smol.cli.config import find, load
from smol.cli.output import print_json, print_result, save
from smol.cli.session import current_options, open_client
from smol.cli.settings import Settings
from smol.client.arguments import bind, takes_attachment
from smol.errors import SmolError, nearest
from smol.host.discovery import Broken, discover
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.types import Json

__all__ = ["known_units", "unit_command"]

RESIDENT = {
    "lifecycle": "Units and their workers: list, add, remove, start, stop and watch them.",
    "memory": "The memory budget: who holds it, why somebody was refused, what would fit.",
    "packages": "Sets of Python packages for sandboxes: listed, made, removed.",
}
"""Units that live in the host, and so have no manifest to be found."""

_JSON_TYPES: Mapping[str, click.ParamType[Any, Any]] = {
    "integer": click.INT,
    "number": click.FLOAT,
    "string": click.STRING,
}


def known_units() -> dict[str, str]:
    """Units that can be found without a host, with their descriptions."""
    try:
        directories = load(Settings, find(current_options().config)).host.unit_directories
    except SmolError:
        directories = ()
    found = {entry.name: entry.description for entry in discover(directories) if not isinstance(entry, Broken)}
    return {**found, **RESIDENT}


def unit_command(name: str) -> click.Command | None:
    """The command of a unit; None when there is no such unit."""
    if name not in known_units() and not _is_running(name):
        return None
    return _UnitGroup(name)


def _is_running(name: str) -> bool:
    """Whether a running host knows a unit that we can't find by ourselves."""
    try:
        with open_client(must_run=True) as client:
            return any(unit["name"] == name for unit in client.call("lifecycle.units"))
    except SmolError:
        return False


class _UnitGroup(click.Group):
    """A unit. Its operations are asked of the host once a command needs them."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=known_units().get(name, ""))
        self._unit = name
        self._described: UnitDescription | None = None

    def list_commands(self, context: click.Context) -> list[str]:
        return [_dashed(operation.name) for operation in self._description().operations]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for operation in self._description().operations:
            if _dashed(operation.name) == _dashed(name):
                return _operation_command(self._unit, operation)
        return None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(context, args[0]) is None and not args[0].startswith("-"):
            known = ", ".join(self.list_commands(context))
            hint = nearest(args[0], self.list_commands(context))
            raise click.UsageError(
                f"unit {self._unit!r} has no operation {args[0]!r}{hint}; it has: {known}", context
            )
        return super().resolve_command(context, args)

    def _description(self) -> UnitDescription:
        if self._described is None:
            with open_client() as client:
                self._described = client.describe(self._unit)
        return self._described


def _operation_command(unit: str, operation: OperationDescription) -> click.Command:
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    required = operation.input.get("required", [])
    parameters: list[click.Parameter] = []
    documented: list[str] = []
    for name, schema in properties.items():
        schema = _resolve(schema, operation.input)
        if name in required:
            parameters.append(_argument(name, schema))
            if schema.get("description"):
                documented.append(f"{name.upper()}: {schema['description']}")
        else:
            parameters.append(_option(name, schema))
    if properties.get("annotated", {}).get("type") == "boolean":
        parameters.append(
            click.Option(["--draw"], type=_FILE, help="Write the picture with the results drawn to a file.")
        )
    if '"x-smol-attachment"' in msgspec.json.encode(operation.output).decode():
        parameters.append(
            click.Option(["-o", "--output"], type=_FILE, help="Write the result's attachment to a file.")
        )
    text = "\n\n".join([operation.summary, operation.description, "\n\n".join(documented)])
    return _OperationCommand(
        _dashed(operation.name),
        params=parameters,
        help=inspect.cleandoc(text),
        short_help=operation.summary,
        callback=_callback(unit, operation),
    )


class _OperationCommand(click.Command):
    """An operation. What is not required may be given by place too, as in Python and in `smol do`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.allow_extra_args = True
        left = super().parse_args(context, args)
        for option in self.params:
            if left and _takes_place(option, context):
                texts, left = (left, []) if option.multiple else (left[:1], left[1:])
                context.params[str(option.name)] = option.type_cast_value(
                    context, texts if option.multiple else texts[0]
                )
        if left:
            context.fail(f"{left[0]!r} is one argument too many")
        context.args = left
        return left


def _takes_place(option: click.Parameter, context: click.Context) -> TypeGuard[click.Option]:
    """Whether it is an option for an argument of the operation, and not given."""
    if not isinstance(option, click.Option) or option.is_flag or option.type is _FILE:
        return False
    return context.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT


_FILE = click.Path(path_type=Path, dir_okay=False)


def _callback(unit: str, operation: OperationDescription) -> Callable[..., None]:
    name = f"{unit}.{operation.name}"

    def run(**given: Any) -> None:
        draw, output = given.pop("draw", None), given.pop("output", None)
        named = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
        named = {key: value for key, value in named.items() if value not in (None, [])}
        if draw is not None:
            named["annotated"] = True
            if "annotated_format" in operation.input["properties"]:
                named["annotated_format"] = "png" if draw.suffix.lower() == ".png" else "jpeg"
        arguments = bind(name, operation, (), named)
        options = current_options()
        show = print_json if options.as_json else print_result
        with open_client() as client:
            if operation.streaming:
                for item in client.stream(name, arguments):
                    show(item)
                return
            result = client.call(name, arguments)
        if draw is not None or output is not None:
            save(result, draw or output)
        show(_without_attachments(result) if draw or output else result)

    return run


def _argument(name: str, schema: Json) -> click.Argument:
    inner = schema.get("items", {})
    if schema.get("type") == "array" and (inner.get("type") in _JSON_TYPES or takes_attachment(inner)):
        return click.Argument(
            [name], nargs=-1, required=True, type=_click_type(inner), metavar=f"{name.upper()}..."
        )
    return click.Argument([name], type=_click_type(schema), metavar=name.upper())


def _option(name: str, schema: Json) -> click.Option:
    flag = f"--{_dashed(name)}"
    settings: dict[str, Any] = {"help": schema.get("description", ""), "default": schema.get("default")}
    settings["show_default"] = settings["default"] not in (None, "", [], {})
    if schema.get("type") == "boolean":
        return click.Option([f"{flag}/--no-{_dashed(name)}", name], **settings)
    if schema.get("type") == "array":
        text = f"{settings['help']} May be repeated.".strip()
        return click.Option([flag, name], multiple=True, type=_click_type(schema.get("items", {})), help=text)
    return click.Option([flag, name], type=_click_type(schema), **settings)


def _click_type(schema: Json) -> click.ParamType[Any, Any]:
    if takes_attachment(schema):
        return click.Path(exists=True, dir_okay=False)
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        return click.Choice(schema["enum"])
    kind = schema.get("type")
    return _JSON_TYPES[kind] if kind in _JSON_TYPES else _JsonValue(or_text=kind is None)


class _JsonValue(click.ParamType[Any, Any]):
    """A value written as JSON. or_text: what is no JSON is itself, a string."""

    name = "json"

    def __init__(self, or_text: bool) -> None:
        self._or_text = or_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            if self._or_text:
                return value
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


def _resolve(schema: Json, root: Json) -> dict[str, Json]:
    """The schema itself: a reference is followed, and of `X or null` it is X."""
    if "$ref" in schema:
        target = root.get("$defs", {}).get(schema["$ref"].removeprefix("#/$defs/"), {})
        return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**_resolve(choices[0], root), **rest}
    return dict(schema)


def _without_attachments(result: Json) -> Json:
    if isinstance(result, dict):
        return {key: value for key, value in result.items() if not hasattr(value, "media_type")}
    return result


def _dashed(name: str) -> str:
    return name.replace("_", "-")
