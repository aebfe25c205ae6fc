from __future__ import annotations

from pathlib import Path

import pytest

from smol.cli.config import find, load
from smol.cli.settings import Settings
from smol.errors import InvalidArgument, NotFound


def write(directory: Path, text: str) -> Path:
    path = directory / "smol.toml"
    path.write_text(text)
    return path


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert load(Settings, None, {}) == Settings()


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[host]\nconnections = 10\nlog_level = "debug"\nbudget = "1GiB"\n')
    host = load(Settings, path, {"SMOL_HOST_CONNECTIONS": "20"}).host
    assert (host.connections, host.log_level, host.budget_bytes, host.log_format) == (
        20,
        "debug",
        2**30,
        "text",
    )


def test_paths_in_the_file_start_from_its_directory_and_those_in_variables_from_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, '[host]\nsocket = "x.sock"\nunit_directories = ["units", "/abs"]')
    monkeypatch.chdir("/")
    host = load(Settings, path, {"SMOL_HOST_DATA_DIRECTORY": "data"}).host
    assert host.socket == tmp_path / "x.sock"
    assert host.unit_directories == (tmp_path / "units", Path("/abs"))
    assert host.data_directory == Path("/data")


def test_the_tables_of_units_are_given_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, '[units.detect]\nthreads = 2\nlabels = ["a"]\n[units.math]\nwild = {x = 1}\n')
    settings = load(Settings, path, {"SMOL_UNITS__DETECT__THREADS": "3"})
    assert settings.units == {"detect": {"threads": 3, "labels": ["a"]}, "math": {"wild": {"x": 1}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[host]\n\npign_interval_seconds = 3",
            ":3: host.pign_interval_seconds: unknown key (did you mean 'ping_int",
        ),
        ("[hots]", ":1: hots: unknown key (did you mean 'host'?)"),
        ("[host]\nconnections = 'many'", ":2: host.connections: expected `int`, got `str` ('many')"),
        ("[host]\nbudget = 'much'", ":2: host.budget: expected a size"),
        ("[host]\nlog_format = 'xml'", ":2: host.log_format: expected one of 'text', 'json', got 'xml'"),
        (
            "[host]\ndefault_deadline_seconds = 1e5",
            ":1: host: default_deadline_seconds (100000) is more than",
        ),
        ("units = 3", ":1: units: expected `object`"),
        ("[units]\ndetect = 3", ": units"),
        ("[host", ": not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidArgument) as caught:
        load(Settings, path, {"SMOL_HOST_LOG_FORMAT": "json"})
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_variable_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[host]\nmax_deadline_seconds = 100")
    with pytest.raises(InvalidArgument, match=r"settings: host: default_deadline_seconds \(200\)"):
        load(Settings, path, {"SMOL_HOST_DEFAULT_DEADLINE_SECONDS": "200"})


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.toml"):
        load(Settings, tmp_path / "gone.toml", {})
    (tmp_path / "smol.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        load(Settings, tmp_path / "smol.toml", {})


def test_the_file_is_searched_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, xdg = tmp_path / "here", tmp_path / "home", tmp_path / "xdg" / "smol"
    for directory in (here, home, xdg):
        directory.mkdir(parents=True)
        write(directory, "")
    option, variable = tmp_path / "option.toml", tmp_path / "variable.toml"
    option.touch()
    variable.touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(xdg.parent))
    environ = {"SMOL_CONFIG": str(variable), "SMOL_HOME": str(home)}
    assert find(option, environ) == option
    assert find(None, environ) == variable
    del environ["SMOL_CONFIG"]
    assert find(None, environ) == here / "smol.toml"
    (here / "smol.toml").unlink()
    assert find(None, environ) == home / "smol.toml"
    assert find(None, {}) == xdg / "smol.toml"
    (xdg / "smol.toml").unlink()
    assert find(None, {}) is None


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--config names"):
        find(tmp_path / "gone.toml", {})
    with pytest.raises(NotFound, match="SMOL_CONFIG names"):
        find(None, {"SMOL_CONFIG": str(tmp_path / "gone.toml")})
