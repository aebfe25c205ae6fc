"""Every setting is documented, and the example in the repository is the one drawn from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec
import pytest

from smol.cli.environment import VARIABLES, settings_by_variable
from smol.cli.example import render
from smol.cli.settings import Setting, Settings, documented, list_settings
from smol.host.manifest import Manifest
from smol.host.settings import HostSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("setting", list(list_settings(Settings)), ids=lambda setting: ".".join(setting.keys))
def test_every_setting_is_documented(setting: Setting) -> None:
    assert len(setting.doc) > 10
    assert setting.doc.endswith(".")


@pytest.mark.parametrize("kind", [Settings, HostSettings])
def test_no_documented_setting_is_missing(kind: type) -> None:
    names = {setting.keys[-1] for setting in list_settings(Settings)}
    assert set(documented(kind)) <= names


def test_every_key_of_a_manifest_is_documented() -> None:
    # restart_period_seconds is told of under max_restarts
    assert set(Manifest.__struct_fields__) - set(documented(Manifest)) == {"restart_period_seconds"}


def test_the_page_on_manifests_names_exactly_the_keys_and_choices_there_are() -> None:
    page = (ROOT / "docs/reference/unit-toml.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE)}
    fields = {field.encode_name: field for field in msgspec.structs.fields(Manifest) if field.name != "path"}
    assert set(rows) == set(fields)
    for key, field in fields.items():
        if get_origin(field.type) is Literal:
            assert tuple(re.findall(r"`([^`]+)`", rows[key])) == get_args(field.type)


def test_every_variable_is_documented_and_belongs_to_one_setting() -> None:
    assert all(doc.endswith(".") for doc in VARIABLES.values())
    assert settings_by_variable(Settings)


def test_the_example_is_up_to_date() -> None:
    assert (ROOT / "smol.example.toml").read_text() == render(Settings), "render it again"
