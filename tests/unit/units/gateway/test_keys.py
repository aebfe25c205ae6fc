"""API keys at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from smol.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, PermissionDenied
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.operations import limit_program


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "gateway" / "keys.json")


def test_a_key_is_found_by_its_secret_which_is_kept_nowhere(keys: KeyFile, tmp_path: Path) -> None:
    secret = keys.create("phone", ["detect.*"], 60)
    file = tmp_path / "gateway" / "keys.json"
    found = keys.find(secret)
    assert found is not None
    assert (found.name, found.allow, found.per_minute) == ("phone", ("detect.*",), 60)
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys.find(secret + "x") is None
    assert keys.find("") is None


def test_another_process_sees_a_change_at_once(keys: KeyFile, tmp_path: Path) -> None:
    other = KeyFile(tmp_path / "gateway" / "keys.json")
    assert other.all() == ()
    secret = keys.create("phone")
    assert other.find(secret) is not None
    keys.revoke("phone")
    assert other.find(secret) is None


def test_names_are_unique_and_sane(keys: KeyFile) -> None:
    keys.create("phone")
    with pytest.raises(AlreadyExists, match="phone"):
        keys.create("phone")
    with pytest.raises(InvalidArgument):
        keys.create("")
    with pytest.raises(NotFound, match="did you mean 'phone'"):
        keys.revoke("phon")


def test_a_broken_file_lets_nobody_in(keys: KeyFile, tmp_path: Path) -> None:
    secret = keys.create("phone")
    (tmp_path / "gateway" / "keys.json").write_text("[{]")
    with pytest.raises(DataLoss, match="restore it"):
        keys.find(secret)


def test_a_program_may_do_no_more_than_the_key_that_starts_it(keys: KeyFile) -> None:
    known = ["math.evaluate", "detect.image", "lifecycle.add", "lifecycle.units", "executor.run"]
    key = keys.find(keys.create("phone", ["executor.*", "math.*"]))
    assert limit_program(key, {"program": "x"}, known)["allowed"] == ["executor.*", "math.*"]
    assert limit_program(key, {"allowed": ["math.evaluate"]}, known)["allowed"] == ["math.evaluate"]
    for pattern in ("*", "detect.image", "*.*"):
        with pytest.raises(PermissionDenied):
            limit_program(key, {"allowed": [pattern]}, known)


def test_no_program_over_http_may_add_units(keys: KeyFile) -> None:
    known = ["math.evaluate", "lifecycle.add", "lifecycle.units"]
    assert limit_program(None, {}, known)["allowed"] == ["lifecycle.units", "math.evaluate"]
    assert limit_program(None, {"allowed": ["life*"]}, known)["allowed"] == ["lifecycle.units"]
    assert limit_program(None, {"allowed": ["lifecycle.add"]}, known)["allowed"] == []


def test_what_is_no_list_of_patterns_is_left_to_the_unit_to_refuse() -> None:
    for wrong in ([None], "math.*", {"a": 1}):
        assert limit_program(None, {"allowed": wrong}, ["math.evaluate"]) == {"allowed": wrong}
