"""Which parts of the host a sandbox is shown: libraries, an interpreter, packages; never more than they need."""

from __future__ import annotations

import functools
import importlib.util
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from smol.sandbox.keeper import Keeper
from smol.sandbox.records import Kind
from smol.sandbox.seal import CERTIFICATES, library_folders

__all__ = ["PACKAGES", "open_to_all", "program_kind", "python_kind", "reachable_python", "with_network"]

PACKAGES = ("numpy", "PIL", "_quickjs")
"""What code may import beside the standard library; they come with Smol."""
PACKAGES_OF_ALL_VERSIONS = ("_quickjs",)
"""Those built for Python's stable interface."""
_SYSTEM_PYTHON = "/usr/bin/python3"
_PLACE = "/usr/lib/packages"
_EVERYWHERE = ("/usr/share/zoneinfo",)


def python_kind(keeper: Keeper, environment: Path | None = None) -> Kind:
    """The interpreter of the nursery, with the data-science packages or those of an environment.

    environment: a directory to import from, built ahead for the same version of Python.
    """
    version = ".".join(str(part) for part in keeper.version)
    library = f"/usr/lib/python{version}"
    binds = [*_shown(library_folders()), (keeper.library, library), *_shown(_EVERYWHERE)]
    outer: list[str] = []
    if environment is not None:
        binds.append((str(environment), _PLACE))
        outer.append(str(environment))
    else:
        same = keeper.version == tuple(sys.version_info[:2])
        for place in _package_places(PACKAGES if same else PACKAGES_OF_ALL_VERSIONS):
            binds.append((place, f"{_PLACE}/{os.path.basename(place)}"))
            outer.append(os.path.dirname(place))
    return Kind(
        name="python" if environment is None else f"python {environment}",
        binds=tuple(binds),
        paths=(library, f"{library}/lib-dynload", _PLACE),
        outer_paths=tuple(dict.fromkeys(outer)),
    )


def program_kind(name: str, shown: Iterable[str]) -> Kind:
    """A program of the host, with what it is shown besides the libraries."""
    return Kind(name=name, profile="program", binds=tuple(_shown([*library_folders(), *_EVERYWHERE, *shown])))


def with_network(kind: Kind) -> Kind:
    """The same with a proxy within reach, and the certificates that this system trusts."""
    return msgspec.structs.replace(
        kind, name=f"{kind.name} with network", binds=(*kind.binds, *_shown(CERTIFICATES)), network=True
    )


def _shown(places: Iterable[str]) -> list[tuple[str, str]]:
    return [(place, place) for place in places]


@functools.cache
def _package_places(names: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        spec = importlib.util.find_spec(name)  # finds, and does not import
        if spec is None or spec.origin is None:
            continue
        if not spec.submodule_search_locations:
            found.append(spec.origin)
            continue
        folder = Path(spec.origin).parent
        native = [folder.with_name(f"{prefix}.libs") for prefix in (name, "pillow")]  # as wheels have them
        found += [str(folder), *(str(path) for path in native if path.is_dir() and str(path) not in found)]
    return tuple(dict.fromkeys(found))


def open_to_all(path: str) -> bool:
    """Whether any user may go to `path`: what a sandbox needs that sees the host's files as another user."""
    here = Path(os.path.realpath(path))
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (here, *here.parents) if folder.is_dir())


def reachable_python(layers: Sequence[str]) -> str | None:
    """The Python for a sandbox that sees the host's files as another user: it must be open to that one.

    Empty for the one that runs Smol; None when there is none.
    """
    if "uid" not in layers or open_to_all(os.path.dirname(os.__file__)):
        return ""
    return _SYSTEM_PYTHON if os.path.exists(_SYSTEM_PYTHON) else None
