"""Environment variables: those that override settings, and those that do not.

The rule: `SMOL_` and the key's path in capitals, joined by `_`. `[host] ping_interval_seconds` is
`SMOL_HOST_PING_INTERVAL_SECONDS`. Names are made from the known settings and looked up, never taken
apart. A key of a unit is `SMOL_UNITS__NAME__KEY`, with two underscores, as Smol does not know it.

Text is taken as it stands; numbers, booleans (`true`, `false`, `1`, `0`) and sizes (`24MiB`) are
read by the setting's type. A list of paths is separated as in `PATH`, other lists by commas. A unit's
value is read as TOML if it is that, and is text if not. An empty variable counts as not set.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from smol import tables
from smol.cli.settings import Setting, list_settings
from smol.errors import Internal, InvalidArgument, nearest
from smol.types import Json

__all__ = ["PREFIX", "VARIABLES", "overrides", "settings_by_variable"]

PREFIX = "SMOL_"

VARIABLES: Mapping[str, str] = {
    "SMOL_CONFIG": "Path of smol.toml; --config goes before it.",
    "SMOL_HOME": "One directory for all of Smol's files, instead of the platform's several.",
    "SMOL_SOCKET": "Unix socket of the host, for the host and its clients.",
    "SMOL_MODEL_MIRROR": "Where models come from first: an https address, a directory or a file URL.",
    "SMOL_SHARED": "Directory of data sets and models that tests and benchmarks use if it is there.",
}
"""Variables that are not settings, with what they are for."""


def settings_by_variable(kind: type[msgspec.Struct]) -> dict[str, Setting]:
    """The settings of a struct by the variable that overrides them. Raises `Internal` if two share one."""
    found: dict[str, Setting] = {}
    for setting in list_settings(kind):
        other = found.get(setting.variable)
        if other is not None or setting.variable in VARIABLES:
            rival = ".".join(other.keys) if other else "a variable that is not a setting"
            raise Internal(f"{setting.variable} is both {'.'.join(setting.keys)} and {rival}; rename one")
        found[setting.variable] = setting
    return found


def overrides(kind: type[msgspec.Struct], environ: Mapping[str, str]) -> dict[str, Json]:
    """The nested table that the environment sets. Raises `InvalidArgument`, also for an unknown variable."""
    settings = settings_by_variable(kind)
    free_form = [setting for setting in settings.values() if setting.free_form]
    plain = {name: setting for name, setting in settings.items() if not setting.free_form}
    table: dict[str, Json] = {}
    for name in sorted(environ):
        text = environ[name]
        if not name.startswith(PREFIX) or name in VARIABLES or not text:
            continue
        if name in plain:
            _put(table, plain[name].keys, _read(text, plain[name].annotation, name))
        elif owner := next((each for each in free_form if name.startswith(each.variable + "__")), None):
            _put(table, (*owner.keys, *_inner_keys(name, owner)), _read_free(text))
        else:
            raise InvalidArgument(f"unknown variable {name}{nearest(name, [*plain, *VARIABLES])}; unset it")
    return table


def _inner_keys(name: str, owner: Setting) -> tuple[str, str]:
    unit, separator, key = name[len(owner.variable) + 2 :].lower().partition("__")
    if not unit or not separator or not key:
        raise InvalidArgument(f"unknown variable {name}; a unit's key is {owner.variable}__NAME__KEY")
    return unit, key


def _put(table: dict[str, Json], keys: tuple[str, ...], value: Json) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table[keys[-1]] = value


def _read(text: str, annotation: Any, name: str) -> Any:
    source = tables.Source(name, base=Path.cwd())
    for kind in tables.variants(annotation):
        if get_origin(kind) in (tuple, list):
            item = get_args(kind)[0]
            separator = os.pathsep if Path in tables.variants(item) else ","
            parts = [part.strip() for part in text.split(separator) if part.strip()]
            return tables.decode_value(parts, annotation, source, strict=False)
    return tables.decode_value(text, annotation, source, strict=False)


def _read_free(text: str) -> Json:
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text
