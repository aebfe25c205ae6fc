"""The published format of programs is that of the code, and the example fits it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from smol.units.executor.program import Limits, parse, schema

ROOT = Path(__file__).parents[2]


def test_the_published_schema_is_up_to_date() -> None:
    assert msgspec.json.decode(
        (ROOT / "docs" / "reference" / "program.schema.json").read_bytes()
    ) == msgspec.json.decode(msgspec.json.encode(schema()))


def test_the_example_is_a_program() -> None:
    assert parse((ROOT / "examples" / "count-people.yaml").read_text(), Limits()).program.name == "count-people"
