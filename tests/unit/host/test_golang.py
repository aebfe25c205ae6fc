from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import smol.host.golang as golang
from smol.errors import FailedPrecondition
from smol.host.golang import MODULE, GoBuilds, find_toolchain, sdk_directory

FAKE = """#!/bin/sh
echo "$@" >>"{log}"
case "$1" in
build)
    echo "compiling"
    test ! -e "{folder}/broken" || {{ echo "main.go:3: undefined: x"; exit 1; }}
    test -e "{folder}/library" || {{ while test "$1" != -o; do shift; done; echo "#!" >"$2"; chmod +x "$2"; }} ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a Go that plays its part, which is the only one to be found, and a unit to build."""
    monkeypatch.setattr(golang, "_packaged", lambda: None)
    set_version(tmp_path, "go1.24.3")
    program = tmp_path / "go" / "bin" / "go"
    program.parent.mkdir()
    program.write_text(FAKE.format(log=tmp_path / "log", folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    unit = tmp_path / "unit"
    unit.mkdir()
    (unit / "go.mod").write_text("module unit\n")
    (unit / "main.go").write_text("package main\n")
    return tmp_path


def set_version(folder: Path, version: str) -> None:
    (folder / "go").mkdir(exist_ok=True)
    (folder / "go" / "VERSION").write_text(f"{version}\ntime 2025\n")


def build(folder: Path, package: str = ".", progress: Callable[[str], None] = lambda line: None) -> Path:
    builds = GoBuilds(folder / "builds", folder / "cache")
    return asyncio.run(builds.ensure(folder / "unit", package, progress))


def log(folder: Path) -> list[str]:
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_the_go_module_comes_with_smol() -> None:
    assert f"module {MODULE}\n" in (sdk_directory() / "go.mod").read_text()
    assert (sdk_directory() / "unit" / "unit.go").is_file()


def test_a_go_on_the_path_is_found_with_its_version(folder: Path) -> None:
    found = find_toolchain()
    assert (found.go, found.version) == (folder / "go" / "bin" / "go", "go1.24.3")


@pytest.mark.parametrize("version", ["go1.23.9", "go1.9", "devel", ""])
def test_a_go_that_is_too_old_is_refused_with_what_to_do(folder: Path, version: str) -> None:
    set_version(folder, version)
    with pytest.raises(FailedPrecondition, match=r"no Go 1\.24 or later.*pip install 'smol\[go\]'"):
        find_toolchain()


def test_without_any_go_it_is_said_how_to_get_one(folder: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"later: install Go, or run: pip install 'smol\[go\]'"):
        find_toolchain({"PATH": "/not/there"})


def test_a_unit_is_built_once_and_its_own_files_stay_as_they_are(folder: Path) -> None:
    told: list[str] = []
    program = build(folder, progress=told.append)
    assert program.is_file()
    assert "compiling" in told
    assert f"-require={MODULE}@v0.0.0 -replace={MODULE}={sdk_directory()}" in log(folder)[0]
    assert build(folder) == program
    assert len(log(folder)) == 2
    assert sorted(path.name for path in (folder / "unit").iterdir()) == ["go.mod", "main.go"]


@pytest.mark.parametrize("name", ["main.go", "go.mod", "data.txt"])
def test_a_unit_whose_files_changed_is_built_anew_and_the_old_one_goes(folder: Path, name: str) -> None:
    first = build(folder)
    (folder / "unit" / name).write_text("module other // or so\n")
    second = build(folder)
    assert first != second
    assert not first.exists()


def test_tests_and_hidden_files_do_not_count(folder: Path) -> None:
    first = build(folder)
    (folder / "unit" / "main_test.go").write_text("package main\n")
    (folder / "unit" / ".cache").write_text("x")
    assert build(folder) == first
    assert len(log(folder)) == 2


def test_another_go_builds_anew_and_none_runs_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = build(folder)
    set_version(folder, "go1.25")
    assert build(folder) == program
    assert len(log(folder)) == 4
    monkeypatch.setenv("PATH", "/not/there")
    assert build(folder) == program
    (folder / "unit" / "main.go").write_text("package main // changed\n")
    with pytest.raises(FailedPrecondition, match="no Go"):
        build(folder)


def test_what_the_compiler_says_is_told_and_nothing_is_left(folder: Path) -> None:
    (folder / "broken").touch()
    with pytest.raises(FailedPrecondition, match=r"can't be built:\n(?s:.*)main\.go:3: undefined: x"):
        build(folder)
    assert not list((folder / "builds").glob("*/"))
    (folder / "broken").unlink()
    assert build(folder).is_file()


def test_a_package_that_is_no_program_is_refused(folder: Path) -> None:
    (folder / "library").touch()
    with pytest.raises(FailedPrecondition, match="a unit is 'package main'"):
        build(folder)


def test_a_package_may_be_below_the_root_of_its_module(folder: Path) -> None:
    inner = folder / "unit" / "cmd" / "x"
    inner.mkdir(parents=True)
    (inner / "main.go").write_text("package main\n")
    build(folder, "cmd/x")
    assert log(folder)[-1].endswith(" ./cmd/x")


@pytest.mark.parametrize(
    ("package", "told"), [("missing", "no Go package"), ("empty", "no .go file"), ("../alone", "no go.mod")]
)
def test_what_is_no_package_is_refused(folder: Path, package: str, told: str) -> None:
    (folder / "unit" / "empty").mkdir()
    (folder / "alone").mkdir()
    (folder / "alone" / "main.go").write_text("package main\n")
    with pytest.raises(FailedPrecondition, match=told):
        build(folder, package)


def test_a_directory_that_holds_far_more_than_source_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golang, "LARGEST_SOURCES_BYTES", 10)
    with pytest.raises(FailedPrecondition, match="keep what is not source outside"):
        build(folder)
