from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from smol.cli.environment import VARIABLES, overrides, settings_by_variable
from smol.cli.settings import Settings
from smol.errors import Internal, InvalidArgument


class Inner(msgspec.Struct, frozen=True):
    b_c: int = 0


@pytest.mark.parametrize(
    ("variable", "text", "keys", "value"),
    [
        ("SMOL_HOST_PING_INTERVAL_SECONDS", "2.5", ("host", "ping_interval_seconds"), 2.5),
        ("SMOL_HOST_CONNECTIONS", "12", ("host", "connections"), 12),
        ("SMOL_HOST_BUDGET", "1GiB", ("host", "budget"), 2**30),
        ("SMOL_HOST_BUDGET", "4096", ("host", "budget"), 4096),
        ("SMOL_HOST_LOG_FORMAT", "json", ("host", "log_format"), "json"),
        ("SMOL_HOST_SOCKET", "/run/x.sock", ("host", "socket"), Path("/run/x.sock")),
        ("SMOL_HOST_UNIT_DIRECTORIES", "/a:/b", ("host", "unit_directories"), (Path("/a"), Path("/b"))),
        ("SMOL_UNITS__DETECT__THREADS", "2", ("units", "detect", "threads"), 2),
        ("SMOL_UNITS__DETECT__MODEL", "small one", ("units", "detect", "model"), "small one"),
        ("SMOL_UNITS__DETECT__MODEL", "true", ("units", "detect", "model"), True),
        ("SMOL_UNITS__MY_UNIT__A_KEY", '["x", 1]', ("units", "my_unit", "a_key"), ["x", 1]),
        ("SMOL_UNITS__X__TEXT", "1\nother = 2", ("units", "x", "text"), "1\nother = 2"),
    ],
)
def test_a_variable_sets_its_key_with_its_type(
    variable: str, text: str, keys: tuple[str, ...], value: Any
) -> None:
    found: Any = overrides(Settings, {variable: text})
    for key in keys:
        found = found[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("SMOL_HOST_CONNECTIONS", "many", "SMOL_HOST_CONNECTIONS: expected `int`"),
        ("SMOL_HOST_CONNECTIONS", "0", "SMOL_HOST_CONNECTIONS: expected `int` >= 1"),
        ("SMOL_HOST_BUDGET", "much", "SMOL_HOST_BUDGET: expected a size"),
        ("SMOL_HOST_LOG_LEVEL", "warn", "SMOL_HOST_LOG_LEVEL: expected one of 'debug', 'info', 'warning'"),
        (
            "SMOL_HOST_PING_INTERVAL",
            "3",
            "unknown variable SMOL_HOST_PING_INTERVAL (did you mean 'SMOL_HOST_PING_INT",
        ),
        ("SMOL_CONFG", "x", "unknown variable SMOL_CONFG (did you mean 'SMOL_CONFIG'?)"),
        (
            "SMOL_UNITS__DETECT",
            "3",
            "unknown variable SMOL_UNITS__DETECT; a unit's key is SMOL_UNITS__NAME__KEY",
        ),
        ("SMOL_UNITS____X", "3", "unknown variable SMOL_UNITS____X; a unit's key is"),
        ("SMOL_UNITS", "3", "unknown variable SMOL_UNITS"),
        ("SMOL_UNITS_DETECT_THREADS", "3", "unknown variable SMOL_UNITS_DETECT_THREADS"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused_by_name(variable: str, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        overrides(Settings, {variable: text})
    assert str(caught.value).startswith(message)


def test_foreign_empty_and_other_known_variables_set_nothing() -> None:
    environ = {"PATH": "/bin", "SMOLDER": "x", "SMOL_HOST_CONNECTIONS": "", **dict.fromkeys(VARIABLES, "x")}
    assert overrides(Settings, environ) == {}


def test_a_boolean_and_a_list_of_texts_are_read() -> None:
    class Flat(msgspec.Struct):
        quiet: bool = False
        names: tuple[str, ...] = ()

    assert overrides(Flat, {"SMOL_QUIET": "True", "SMOL_NAMES": "a, b,"}) == {
        "quiet": True,
        "names": ("a", "b"),
    }
    assert overrides(Flat, {"SMOL_QUIET": "0"}) == {"quiet": False}
    with pytest.raises(InvalidArgument, match="SMOL_QUIET"):
        overrides(Flat, {"SMOL_QUIET": "maybe"})


def test_two_settings_with_one_variable_are_refused() -> None:
    class Clash(msgspec.Struct):
        a: Inner = Inner()
        a_b_c: int = 0

    with pytest.raises(Internal, match=r"SMOL_A_B_C is both a_b_c and a\.b_c"):
        settings_by_variable(Clash)


def test_a_setting_that_takes_a_known_variables_name_is_refused() -> None:
    class Clash(msgspec.Struct):
        home: str = ""

    with pytest.raises(Internal, match="SMOL_HOME"):
        settings_by_variable(Clash)
