"""Finding and reading smol.toml. Precedence: the defaults, the file, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs

from smol import tables
from smol.cli.environment import overrides
from smol.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from smol.sizes import MIB, format_bytes
from smol.types import Json

__all__ = ["FILE_NAME", "find", "load"]

FILE_NAME = "smol.toml"
LARGEST_FILE_BYTES = MIB

T = TypeVar("T", bound=msgspec.Struct)


def find(explicit: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The settings file: `explicit` (--config), $SMOL_CONFIG, ./smol.toml, then the user's; None without any.

    The user's is in $SMOL_HOME if that is set, else where the platform keeps configuration. A file
    that is named must exist. Raises `NotFound`.
    """
    environ = os.environ if environ is None else environ
    named, by = explicit, "--config"
    if named is None and environ.get("SMOL_CONFIG"):
        named, by = Path(environ["SMOL_CONFIG"]).expanduser(), "SMOL_CONFIG"
    if named is not None:
        if not named.is_file():
            raise NotFound(f"{by} names {named}, which is not a file")
        return named.absolute()
    home = environ.get("SMOL_HOME")
    user = Path(home).expanduser().absolute() if home else platformdirs.user_config_path("smol", appauthor=False)
    return next((path for path in (Path.cwd() / FILE_NAME, user / FILE_NAME) if path.is_file()), None)


def load(kind: type[T], path: Path | None, environ: Mapping[str, str] | None = None) -> T:
    """The settings, from the file (None: no file) and the environment.

    Relative paths in the file start from its directory, those in variables from the current one.
    Raises `InvalidArgument` naming file, line and key, or the variable; `NotFound` and the like if
    the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    source = tables.Source("settings")
    table: dict[str, Json] = {}
    if path is not None:
        source = tables.Source(str(path), _text(path), path.absolute().parent)
        table = tables.parse(source.text, source.where)
        tables.decode(table, kind, source)  # so that the file answers for itself, whatever overrides it
    changed = overrides(kind, environ)
    if not changed:
        return tables.decode(table, kind, source)
    return tables.decode(_merged(table, changed), kind, tables.Source("settings", base=source.base))


def _merged(below: Mapping[str, Json], above: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            value = _merged(under, value)
        merged[key] = value
    return merged


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE_BYTES + 1)
        if len(data) > LARGEST_FILE_BYTES:
            raise InvalidArgument(f"{path}: longer than {format_bytes(LARGEST_FILE_BYTES)}")
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: not UTF-8 at byte {error.start}") from None
    except FileNotFoundError:
        raise NotFound(f"the settings file {path} does not exist") from None
    except PermissionError:
        raise PermissionDenied(f"the settings file {path} may not be read by this user") from None
    except OSError as error:
        raise FailedPrecondition(f"the settings file {path} cannot be read: {error.strerror}") from None
