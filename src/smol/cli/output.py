"""Results on a terminal: values as lines, lists of records as tables, attachments as files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from smol.errors import FailedPrecondition
from smol.plain import plain, plain_json
from smol.types import Attachment, Json

__all__ = ["attachments_in", "format_size", "print_json", "print_result", "render_table", "save"]


def print_json(value: Json) -> None:
    """Print a result as JSON; an attachment is shown by its type and size."""
    data = msgspec.json.encode(value, enc_hook=_summary)
    click.echo(plain_json(msgspec.json.format(data, indent=2).decode()))


def print_result(value: Json) -> None:
    """Print a result for people: `key: value` lines, tables for lists of records."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        click.echo(render_table(value))
    elif isinstance(value, list):
        for item in value:
            click.echo(_cell(item))
    elif isinstance(value, dict):
        _print_record(value)
    elif value is not None:
        click.echo(_cell(value))


def _print_record(record: Mapping[str, Json]) -> None:
    simple = {key: item for key, item in record.items() if not _is_table(item) and item is not None}
    for table in filter(_is_table, record.values()):
        click.echo(render_table(table))
    width = max((len(key) for key in simple), default=0)
    for key, item in simple.items():
        click.echo(f"{plain(key) + ':':<{width + 1}} {_cell(item)}")


def _is_table(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def render_table(records: Sequence[Mapping[str, Json]]) -> str:
    """Records as aligned columns; a column that is empty everywhere is left out."""
    columns = [
        key for key in dict.fromkeys(name for record in records for name in record)
        if not all(record.get(key) in (None, "", [], {}) for record in records)
    ]  # fmt: skip
    rows = [[_cell(record.get(key), key) for key in columns] for record in records]
    numeric = [all(isinstance(record.get(key), int | float | None) for record in records) for key in columns]
    headings = [plain(key.removesuffix("_bytes").replace("_", " ")) for key in columns]
    widths = [max(len(heading), *(len(row[i]) for row in rows)) for i, heading in enumerate(headings)]
    room = shutil.get_terminal_size((120, 24)).columns
    if columns and sum(widths) + 2 * len(widths) > room:
        widths[-1] = max(20, room - sum(widths[:-1]) - 2 * len(widths))
    lines = [[heading.upper() for heading in headings], *rows]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: Json, key: str = "") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_bytes"):
        return format_size(value) if value else ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"
    if isinstance(value, Attachment):
        return f"{plain(value.media_type)}, {format_size(len(value))}"
    if isinstance(value, list):
        return ", ".join(f"[{_cell(item)}]" if isinstance(item, list) else _cell(item) for item in value)
    if isinstance(value, dict):
        return "  ".join(f"{plain(name)} {_cell(item)}" for name, item in value.items())
    return "" if value is None else plain(str(value))


def format_size(count: int) -> str:
    """Bytes for people, in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def attachments_in(value: Json) -> Iterator[Attachment]:
    """All attachments of a result, in order."""
    if isinstance(value, Attachment):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from attachments_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from attachments_in(item)


def save(value: Json, path: Path) -> None:
    """Write a result's attachment to a file; several get a number before the suffix.

    Raises FailedPrecondition when there is none or it can't be written.
    """
    found = list(attachments_in(value))
    if not found:
        raise FailedPrecondition(f"the result has no attachment to write to {path}")
    for index, attachment in enumerate(found):
        target = path if len(found) == 1 else path.with_stem(f"{path.stem}-{index + 1}")
        try:
            target.write_bytes(attachment.data)
        except OSError as error:
            raise FailedPrecondition(f"{target} can't be written: {error.strerror}") from None
        click.echo(f"wrote {target} ({format_size(len(attachment))})", err=True)


def _summary(value: Any) -> Json:
    if isinstance(value, Attachment):
        return {"media_type": value.media_type, "bytes": len(value), "name": value.name}
    raise TypeError(f"{type(value).__name__} is not JSON")
