from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from smol import tables
from smol.errors import InvalidArgument
from smol.sizes import Size


class Inner(msgspec.Struct, frozen=True):
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    size_bytes: Size | None = None
    mode: Literal["slow", "fast"] = "slow"
    file: Path | None = None
    names: tuple[str, ...] = ()
    filled: Annotated[str, tables.INTERNAL] = ""


class Outer(msgspec.Struct, frozen=True):
    inner: Inner = Inner()
    level: int = 0


def read(text: str) -> Outer:
    return tables.decode(tables.parse(text, "x.toml"), Outer, tables.Source("x.toml", text, Path("/base")))


def test_a_table_becomes_its_struct() -> None:
    text = 'level = 2\n[inner]\ncount = 3\nsize_bytes = "2KiB"\nmode = "fast"\nfile = "a/b"\nnames = ["x"]\n'
    expected = Inner(count=3, size_bytes=2048, mode="fast", file=Path("/base/a/b"), names=("x",))
    assert read(text) == Outer(inner=expected, level=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[inner]\ncuont = 3", "x.toml:2: inner.cuont: unknown key (did you mean 'count'?); known: count, "),
        ("levle = 3", "x.toml:1: levle: unknown key (did you mean 'level'?); known: inner, level"),
        ("\n[inner]\ncount = 'four'", "x.toml:3: inner.count: expected `int`, got `str` ('four')"),
        ("inner.count = 0", "x.toml:1: inner.count: expected `int` >= 1 (0)"),
        ("inner = { count = 0 }", "x.toml: inner.count: expected `int` >= 1 (0)"),
        ("inner = 7", "x.toml:1: inner: expected `object`, got `int` (7)"),
        ("[inner]\nsize_bytes = '2 bananas'", "x.toml:2: inner.size_bytes: expected a size such as"),
        ("[inner]\nsize_bytes = -5", "x.toml:2: inner.size_bytes: expected `int` >= 0 (-5)"),
        (
            "[inner]\nmode = 'fats'",
            "x.toml:2: inner.mode: expected one of 'slow', 'fast', got 'fats' (did you mean",
        ),
        ("[inner]\nnames = ['a', 3]", "x.toml:2: inner.names: expected `str`, got `int` (3)"),
        ("[inner]\nfile = ''", "x.toml:2: inner.file: a path must not be empty"),
        ("[inner]\nfile = 3", "x.toml:2: inner.file: expected a path, got `int` (3)"),
        ("[inner]\nfile = 'a\\u0000'", "x.toml:2: inner.file"),
        ("[inner]\nfilled = 'x'", "x.toml:2: inner.filled: unknown key"),
        ("level = true", "x.toml:1: level: expected `int`, got `bool` (True)"),
        ("level =", "x.toml: not valid TOML"),
        ("a = " + "[" * 20_000, "x.toml: not valid TOML: nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str) -> None:
    text = text.replace("'a\\u0000'", '"a\\u0000"')
    with pytest.raises(InvalidArgument) as caught:
        read(text)
    assert str(caught.value).startswith(message)


def test_a_missing_key_is_named() -> None:
    class Needy(msgspec.Struct):
        name: str

    with pytest.raises(InvalidArgument, match=r"^x: the key 'name' is missing$"):
        tables.decode({}, Needy, tables.Source("x"))


def test_a_long_value_is_cut_short() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(f"level = '{'x' * 5000}'")
    assert len(str(caught.value)) < 150


def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert read("[inner]\nfile = '~/x'").inner.file == Path("/home/ada/x")


def test_the_line_of_a_key_is_found_in_its_own_table() -> None:
    text = "[a]\nx = 1\n# x = 2\n\n[[b.c]]\n  'x' = 3\n[d]\ne.x = 4"
    places = [("a",), ("a", "x"), ("b", "c", "x"), ("d", "e", "x"), ("d", "y"), ()]
    assert [tables.line_of(text, keys) for keys in places] == [1, 2, 6, 8, None, None]
