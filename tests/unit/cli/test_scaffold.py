from __future__ import annotations

import ast

import pytest

from smol.cli.scaffold import LANGUAGES
from smol.host.golang import MODULE, sdk_directory
from smol.host.manifest import Manifest


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_new_unit_has_a_manifest_that_can_be_read_and_a_test(language: str) -> None:
    files = LANGUAGES[language]("my_unit")
    assert Manifest.from_toml(files["unit.toml"], "unit.toml").name == "my_unit"
    assert any("test" in name for name in files)


def test_a_new_python_unit_is_python() -> None:
    for name, text in LANGUAGES["python"]("my_unit").items():
        if name.endswith(".py"):
            ast.parse(text)


def test_a_new_go_unit_finds_the_module_of_smol() -> None:
    files = LANGUAGES["go"]("my_unit")
    assert f"replace {MODULE} => {sdk_directory()}" in files["go.mod"]
    assert all("{" + "name}" not in text for text in files.values())
