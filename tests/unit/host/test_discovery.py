from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from smol.errors import AlreadyExists, InvalidArgument, NotFound
from smol.host.discovery import ENTRY_POINT_GROUP, Broken, discover
from smol.host.manifest import Manifest

NOWHERE = Path("/nonexistent")


def write_unit(directory: Path, name: str, body: str | None = None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = f'[unit]\nname = "{name}"\nclass = "{name}.unit:Unit"\n' if body is None else body
    (directory / "unit.toml").write_text(text)
    return directory


def write_package(site: Path, name: str, entry_point: str, *, files: Path | None = None) -> list[EntryPoint]:
    """An installed distribution whose module would fail the test if it were imported."""
    package = (files or site) / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('discovery imported unit code')")
    (package / "unit.py").write_text("raise SystemExit('discovery imported unit code')")
    info = site / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{entry_point}\n")
    found = [dist for dist in distributions(path=[str(site)]) if dist.name == name]
    return [point for dist in found for point in dist.entry_points]


def find(
    *directories: Path, built_in: Path = NOWHERE, entry_points: Iterable[EntryPoint] = ()
) -> tuple[list[Manifest], list[Broken]]:
    found = list(discover(directories, built_in=built_in, entry_points=entry_points))
    manifests = [each for each in found if isinstance(each, Manifest)]
    return manifests, [each for each in found if isinstance(each, Broken)]


def test_built_in_units_are_found_by_name(tmp_path: Path) -> None:
    write_unit(tmp_path / "b", "b")
    write_unit(tmp_path / "a", "a")
    (tmp_path / "not_a_unit").mkdir()
    manifests, broken = find(built_in=tmp_path)
    assert [(each.name, each.path) for each in manifests] == [("a", tmp_path / "a"), ("b", tmp_path / "b")]
    assert broken == []


def test_a_directory_is_a_unit_or_holds_units(tmp_path: Path) -> None:
    single = write_unit(tmp_path / "single", "one")
    write_unit(tmp_path / "many" / "x", "two")
    write_unit(tmp_path / "many" / "y", "three")
    manifests, broken = find(single, tmp_path / "many")
    assert [each.name for each in manifests] == ["one", "two", "three"]
    assert broken == []


def test_a_broken_unit_is_reported_and_the_others_load(tmp_path: Path) -> None:
    write_unit(tmp_path / "bad", "bad", "[unit]\nname = 3")
    write_unit(tmp_path / "good", "good")
    manifests, broken = find(tmp_path)
    assert [each.name for each in manifests] == ["good"]
    assert [(each.where, each.name) for each in broken] == [(str(tmp_path / "bad"), "bad")]
    assert isinstance(broken[0].error, InvalidArgument)


def test_a_directory_that_is_missing_or_holds_no_unit_is_reported(tmp_path: Path) -> None:
    manifests, broken = find(tmp_path, tmp_path / "missing")
    assert manifests == []
    assert ["holds no unit.toml" in each.error.message for each in broken] == [True, False]
    assert "does not exist" in broken[1].error.message
    assert all(isinstance(each.error, NotFound) for each in broken)


def test_of_two_units_with_one_name_the_first_is_used(tmp_path: Path) -> None:
    write_unit(tmp_path / "built_in" / "same", "same")
    second = write_unit(tmp_path / "second", "same")
    manifests, broken = find(second, built_in=tmp_path / "built_in")
    assert [each.path for each in manifests] == [tmp_path / "built_in" / "same"]
    assert isinstance(broken[0].error, AlreadyExists)
    assert str(tmp_path / "built_in" / "same") in str(broken[0].error)


@pytest.mark.parametrize("below", ["", "unit"])
def test_an_installed_package_is_found_without_importing_it(tmp_path: Path, below: str) -> None:
    points = write_package(tmp_path, "fine", "fine = fine.unit:Unit")
    home = write_unit(tmp_path / "fine" / below, "fine")
    manifests, broken = find(entry_points=points)
    assert [(each.name, each.path) for each in manifests] == [("fine", home)]
    assert broken == []
    assert "fine" not in sys.modules


def test_an_editable_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = write_package(tmp_path / "site", "edited", "edited = edited.unit:Unit", files=tmp_path / "source")
    home = write_unit(tmp_path / "source" / "edited", "edited")
    monkeypatch.syspath_prepend(str(tmp_path / "source"))
    manifests, broken = find(entry_points=points)
    assert [each.path for each in manifests] == [home]
    assert broken == []
    assert "edited" not in sys.modules


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("odd = odd.unit:Other", "its unit.toml says odd = odd.unit:Unit"),
        ("other = odd.unit:Unit", "its unit.toml says odd = odd.unit:Unit"),
        ("odd = gone.unit:Unit", "no unit.toml beside the module"),
        ("odd = ...", "expected package.module:Class"),
        ("odd = ../../etc:x", "expected package.module:Class"),
    ],
)
def test_a_package_that_contradicts_its_manifest_is_reported(
    tmp_path: Path, entry_point: str, message: str
) -> None:
    points = write_package(tmp_path, "odd", entry_point)
    write_unit(tmp_path / "odd", "odd")
    manifests, broken = find(entry_points=points)
    assert manifests == []
    assert broken[0].name == entry_point.split()[0]
    assert "of odd" in broken[0].where
    assert message in broken[0].error.message


def test_a_package_that_fails_in_an_unforeseen_way_does_not_stop_the_others(tmp_path: Path) -> None:
    points = write_package(tmp_path, "fine", "fine = fine.unit:Unit")
    write_unit(tmp_path / "fine", "fine")

    class Damaged(EntryPoint):
        @property
        def dist(self) -> None:  # type: ignore[override]
            return None

    hostile = Damaged("bad", "__main__:Unit", ENTRY_POINT_GROUP)
    manifests, broken = find(entry_points=[hostile, *points])
    assert [each.name for each in manifests] == ["fine"]
    assert [each.name for each in broken] == ["bad"]


def test_the_units_of_this_package_are_all_sound() -> None:
    assert [each for each in discover() if isinstance(each, Broken)] == []
