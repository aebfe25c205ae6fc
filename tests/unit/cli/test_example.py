from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec

from smol.cli.config import load
from smol.cli.example import render
from smol.cli.settings import Settings, list_settings


def test_the_example_changes_nothing_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "smol.toml"
    path.write_text(render(Settings))
    assert load(Settings, path, {}) == Settings()


def test_the_example_holds_every_setting_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "smol.toml"
    path.write_text(re.sub(r"^# (?=\[|[a-z_]+ = )", "", render(Settings), flags=re.MULTILINE))
    read = load(Settings, path, {})
    assert read.units == {"detect": {"threads": 2}}
    for setting in list_settings(Settings):
        if setting.default is not None and not setting.free_form:
            table = msgspec.to_builtins(read, enc_hook=str)
            for key in setting.keys:
                table = table[key]
            assert table == msgspec.to_builtins(setting.default, enc_hook=str), setting.keys


def test_awkward_values_are_written_as_toml(tmp_path: Path) -> None:
    class Awkward(msgspec.Struct, frozen=True):
        """Values that need care.

        text: a text.
        flag: a flag.
        place: a path.
        """

        text: str = 'quote " backslash \\ newline \n ünï \x7f'
        flag: bool = True
        place: Annotated[Path, msgspec.Meta(description="anywhere")] = Path("/a b")

    path = tmp_path / "smol.toml"
    path.write_text(re.sub(r"^# (?=[a-z]+ = )", "", render(Awkward), flags=re.MULTILINE))
    assert load(Awkward, path, {}) == Awkward()
