from __future__ import annotations

import json

import pytest

from smol.cli.errors import explain
from smol.cli.output import print_json, print_result
from smol.errors import NotFound
from smol.plain import plain, plain_json

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\x7f\u202etxt.exe\u2066"


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "größe 中文 🙂 עברית"])
def test_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == plain_json(text) == text


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert plain(HOSTILE) == r"\x1b]0;owned\x07\x1b[2J\r\x9b31m\x7f\u202etxt.exe\u2066"


def test_a_document_keeps_its_meaning() -> None:
    text = plain_json(json.dumps({HOSTILE: [HOSTILE]}, ensure_ascii=False, indent=1))
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {HOSTILE: [HOSTILE]}


@pytest.mark.parametrize(
    "value",
    [
        HOSTILE,
        [HOSTILE],
        {HOSTILE: HOSTILE},
        {"a": {HOSTILE: [HOSTILE]}},
        [{HOSTILE: HOSTILE}],
        {"a": [{"b": HOSTILE}]},
    ],
    ids=["text", "list", "record", "nested", "table", "table in a record"],
)
def test_no_result_reaches_the_terminal_raw(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(value)
    print_json(value)
    said = capsys.readouterr().out
    assert "owned" in said.lower()
    assert said.replace("\n", "").isprintable()


def test_no_error_reaches_the_terminal_raw() -> None:
    assert explain(NotFound(f"no key {HOSTILE}")).isprintable()
