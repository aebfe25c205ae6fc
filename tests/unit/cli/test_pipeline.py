from __future__ import annotations

from pathlib import Path

import pytest

from smol.cli.pipeline import compile_line, split_line
from smol.errors import InvalidArgument, NotFound
from smol.protocol.messages import OperationDescription, UnitDescription

UNIT = UnitDescription(
    "lab",
    "1",
    "",
    [
        OperationDescription(
            name="see", input={"properties": {"image": {"x-smol-attachment": True}, "n": {"type": "integer"}},
                               "required": ["image"]},
        ),
        OperationDescription(
            name="put", input={"properties": {"key": {"type": "string"}, "value": {}}, "required": ["key"]}
        ),
        OperationDescription(name="none"),
    ],
)  # fmt: skip


def describe(unit: str) -> UnitDescription:
    if unit != "lab":
        raise NotFound(f"no unit {unit!r}")
    return UNIT


def test_the_result_of_a_call_is_handed_to_the_next(tmp_path: Path) -> None:
    photo = tmp_path / "a photo.jpg"
    photo.write_bytes(b"x")
    program, files = compile_line(f"lab.see '{photo}' n=3 | lab.put key=last", describe)
    assert program["steps"] == [
        {"id": "call0", "call": "lab.see", "with": {"image": "${{ input.file0 }}", "n": 3}},
        {"id": "call1", "call": "lab.put", "with": {"key": "last", "value": "${{ steps.call0 }}"}},
    ]
    assert files["file0"].data == b"x"


def test_a_bar_in_quotes_is_part_of_a_word() -> None:
    assert [[word.text for word in words] for words in split_line('a.b "x | y"|c.d z')] == [
        ["a.b", "x | y"],
        ["c.d", "z"],
    ]


@pytest.mark.parametrize(
    ("line", "word", "problem"),
    [
        ("lab.se x", "lab.se", "did you mean 'see'"),
        ("bal.see x", "bal.see", "no unit"),
        ("see x", "see", "not an operation"),
        ("lab.put key=a kye=b", "kye=b", "no argument 'kye'"),
        ("lab.put key=a key=b", "key=b", "twice"),
        ("lab.put a b c", "c", "no more than 2"),
        ("lab.see nowhere.jpg", "nowhere.jpg", "no file"),
        ("lab.put a | lab.none", "lab.none", "nothing is left"),
        ("lab.put 'a", "'a", "not closed"),
        ("| lab.put a", "|", "no call before"),
    ],
)
def test_a_mistake_points_at_its_word(line: str, word: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        compile_line(line, describe)
    assert problem in caught.value.message
    assert caught.value.details["at"] == line.rindex(word)
