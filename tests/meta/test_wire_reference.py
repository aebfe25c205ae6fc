"""`docs/reference/wire.md` names everything that the implementation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smol.errors import CODES
from smol.protocol import Limits
from smol.protocol.messages import AttachmentHeader, Message, OperationDescription, UnitDescription
from smol.protocol.order import CallState, State
from smol.sdk.worker import FD_VARIABLE, SPEC_VARIABLE, UnitSpec, WorkerSpec

PAGE = (Path(__file__).parents[2] / "docs/reference/wire.md").read_text(encoding="utf-8")
SECTIONS = {
    name.strip(): text
    for title, text in re.findall(r"^### ([^\n]+) \((?:both|peer|host)\)\n(.*?)(?=^##)", PAGE, re.M | re.S)
    for name in title.split(",")
}
MESSAGES = {kind.__struct_config__.tag: kind for kind in Message.__subclasses__()}


def test_every_message_type_has_its_section_and_no_other_has() -> None:
    assert set(SECTIONS) == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_of_a_message_is_in_its_section(name: str) -> None:
    missing = [field for field in MESSAGES[name].__struct_fields__ if f"`{field}`" not in SECTIONS[name]]
    assert not missing


@pytest.mark.parametrize(
    "kind", [AttachmentHeader, OperationDescription, UnitDescription, Limits, UnitSpec, WorkerSpec]
)
def test_every_field_of_what_messages_are_made_of_is_documented(kind: type) -> None:
    missing = [field for field in kind.__struct_fields__ if f"`{field}`" not in PAGE]  # type: ignore[attr-defined]
    assert not missing


def test_every_status_code_is_documented_with_whether_to_try_again() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (yes|no) \|", PAGE, re.M))
    assert table == {code: "yes" if kind.retryable else "no" for code, kind in CODES.items()}


@pytest.mark.parametrize("word", [*State, *(state for state in CallState if state is not CallState.DONE)])
def test_every_state_is_in_the_tables(word: str) -> None:
    assert re.search(rf"^\|[^\n]*`{word}`", PAGE, re.M)


@pytest.mark.parametrize("variable", [FD_VARIABLE, SPEC_VARIABLE])
def test_every_environment_variable_is_documented(variable: str) -> None:
    assert f"`{variable}`" in PAGE


def test_the_default_limits_are_as_documented() -> None:
    limits = Limits()
    assert f"({limits.header_bytes})" in PAGE
    assert f"({limits.body_bytes})" in PAGE
