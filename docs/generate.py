"""Writes what follows from the code: smol.example.toml and docs/reference/units.md. Run by `make docs`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import smol
from smol.cli.errors import EXIT_STATUS
from smol.cli.example import render
from smol.cli.settings import Settings
from smol.errors import CODES
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.units.gateway.problems import HTTP_STATUS

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"


def type_of(schema: dict[str, object]) -> str:
    """A schema in a few words."""
    if schema.get("x-smol-attachment"):
        return "attachment"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        return " or ".join(type_of(choice) for choice in choices)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])  # type: ignore[attr-defined]
    kind = str(schema.get("type", "any"))
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict) and items:
        return f"list of {type_of(items)}"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return ", ".join([kind, *bounds])


def operation_page(unit: str, operation: OperationDescription) -> list[str]:
    """One operation."""
    flags = [
        word
        for word, true in (
            ("streaming", operation.streaming),
            ("read only", operation.read_only),
            ("idempotent", operation.idempotent and not operation.read_only),
            ("destructive", operation.destructive),
        )
        if true
    ]
    lines = [f"### {unit}.{operation.name}", "", operation.summary, ""]
    if flags:
        lines += [f"*{', '.join(flags)}*", ""]
    if operation.description:
        lines += [operation.description, ""]
    properties = operation.input.get("properties", {})
    if properties:
        lines += ["| argument | type | default | |", "|---|---|---|---|"]
        for name, schema in properties.items():
            needed = name in operation.input.get("required", [])
            default = "**required**" if needed else f"`{schema.get('default')}`"
            lines.append(f"| `{name}` | {type_of(schema)} | {default} | {schema.get('description', '')} |")
        lines.append("")
    fields = operation.output.get("properties", {})
    if fields and not operation.output.get("x-smol-attachment"):
        lines += [
            "Result: " + ", ".join(f"`{name}` ({type_of(schema)})" for name, schema in fields.items()) + ".",
            "",
        ]
    elif operation.output.get("type") != "null":
        lines += [f"Result: {type_of(operation.output)}.", ""]
    return lines


def units_page(units: list[UnitDescription]) -> str:
    """All units that come with Smol."""
    lines = [
        "# Units and their operations",
        "",
        "Written by `make docs` from the units' annotations and docstrings. Each operation is also a command"
        " (`smol UNIT OPERATION --help`), a call (`smol call UNIT.OPERATION '{…}'`) and a Python method.",
        "",
    ]
    for unit in units:
        lines += [f"## {unit.name}", "", unit.summary, ""]
        for operation in unit.operations:
            lines += operation_page(unit.name, operation)
    return "\n".join(lines).rstrip() + "\n"


def errors_page() -> str:
    """Every status code, with the command line's exit status."""
    lines = [
        "# Status codes",
        "",
        "Written by `make docs`. A code is gRPC's canonical name; the HTTP status is that of the gateway,"
        " the exit status that of `smol`.",
        "",
        "| code | Python class | HTTP status | exit status | worth another try |",
        "|---|---|---|---|---|",
    ]
    for code, kind in sorted(CODES.items()):
        again = "yes" if kind.retryable else "no"
        statuses = f"{HTTP_STATUS[code]} | {EXIT_STATUS[code]}"
        lines.append(f"| `{code}` | `smol.errors.{kind.__name__}` | {statuses} | {again} |")
    return "\n".join(lines) + "\n"


async def describe_all() -> list[UnitDescription]:
    async with smol.local() as s:
        names = sorted(entry["name"] for entry in await s.lifecycle.units() if entry["kind"])
        return [await s.describe(name) for name in names]


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    return {
        ROOT / "smol.example.toml": render(Settings),
        REFERENCE / "units.md": units_page(asyncio.run(describe_all())),
        REFERENCE / "status-codes.md": errors_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
