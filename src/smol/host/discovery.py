"""Finding units without importing their code.

Covers the three places a unit can come from: built in, the entry-point group `smol.units` of an
installed package, and directories named in the settings. Does not start or register anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec

from smol.errors import AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound, SmolError
from smol.host.manifest import FILE_NAME, Manifest

__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "Broken", "discover"]

ENTRY_POINT_GROUP = "smol.units"
BUILT_IN = Path(__file__).parents[1] / "units"


class Broken(msgspec.Struct, frozen=True):
    """A unit that was found and cannot be used.

    where: the directory, or the entry point with its package.
    name: of the unit, as far as it is known without its manifest.
    """

    where: str
    name: str
    error: SmolError


def discover(
    directories: Iterable[Path] = (),
    *,
    built_in: Path = BUILT_IN,
    entry_points: Iterable[EntryPoint] | None = None,
) -> Iterator[Manifest | Broken]:
    """All units: built-in ones, those of installed packages, those in `directories`.

    Of two with one name the first is used and the second is broken.

    directories: each holds a `unit.toml`, or holds directories that do.
    entry_points: instead of those of the installed packages.
    """
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    homes: dict[str, Path | None] = {}
    for found in _all(directories, built_in, entry_points):
        if isinstance(found, Manifest):
            if found.name in homes:
                error = AlreadyExists(
                    f"{found.path}: a unit named {found.name!r} is in {homes[found.name]} already; rename one"
                )
                yield Broken(str(found.path), found.name, error)
                continue
            homes[found.name] = found.path
        yield found


def _all(
    directories: Iterable[Path], built_in: Path, entry_points: Iterable[EntryPoint]
) -> Iterator[Manifest | Broken]:
    for directory in _homes(built_in):
        yield _read(directory)
    for entry_point in sorted(entry_points, key=lambda entry_point: (entry_point.name, entry_point.value)):
        yield _from_entry_point(entry_point)
    for directory in directories:
        yield from _from_directory(directory.absolute())


def _from_directory(directory: Path) -> Iterator[Manifest | Broken]:
    try:
        homes = [directory] if (directory / FILE_NAME).exists() else _homes(directory)
    except OSError as error:
        reason = FailedPrecondition(f"the unit directory {directory} cannot be read: {error.strerror}")
        yield Broken(str(directory), directory.name, reason)
        return
    if not homes:
        is_there = directory.is_dir()
        problem = f"holds no {FILE_NAME}, nor a directory that does" if is_there else "does not exist"
        yield Broken(str(directory), directory.name, NotFound(f"the unit directory {directory} {problem}"))
    for home in homes:
        yield _read(home)


def _homes(directory: Path) -> list[Path]:
    """The directories directly in `directory` that hold a manifest, by name."""
    return sorted(file.parent for file in directory.glob(f"*/{FILE_NAME}"))


def _read(directory: Path) -> Manifest | Broken:
    try:
        return Manifest.from_directory(directory)
    except SmolError as error:
        return Broken(str(directory), directory.name, error)


def _from_entry_point(entry_point: EntryPoint) -> Manifest | Broken:
    package = entry_point.dist.name if entry_point.dist else "an unknown package"
    where = f"entry point {entry_point.name} = {entry_point.value} of {package}"
    try:
        manifest = Manifest.from_directory(_locate(entry_point, where))
        _agree(entry_point, manifest, where)
        return manifest
    except SmolError as error:
        return Broken(where, entry_point.name, error)
    except Exception as error:  # a foreign import hook or a damaged dist-info must not stop the others
        return Broken(where, entry_point.name, Internal(f"{where}: {type(error).__name__}: {error}"))


def _agree(entry_point: EntryPoint, manifest: Manifest, where: str) -> None:
    declared = (entry_point.name, entry_point.value.replace(" ", ""))
    if declared != (manifest.name, manifest.class_path):
        raise InvalidArgument(
            f"{where}: its {FILE_NAME} says {manifest.name} = {manifest.class_path}; make the two the same"
        )


def _locate(entry_point: EntryPoint, where: str) -> Path:
    """The directory of the `unit.toml` beside the entry point's module, or in it if it is a package."""
    parts = entry_point.value.partition(":")[0].strip().split(".")
    if not all(part.isidentifier() for part in parts):
        raise InvalidArgument(f"{where}: expected package.module:Class")
    for candidate in _candidates(entry_point, parts):
        if (candidate / FILE_NAME).is_file():
            return candidate
    raise NotFound(f"{where}: no {FILE_NAME} beside the module; add it to the package's data files")


def _candidates(entry_point: EntryPoint, parts: list[str]) -> Iterator[Path]:
    # A package's own directory, then the one its module lies in; never the root of site-packages.
    inner = [parts[1:], parts[1:-1]] if len(parts) > 1 else [[]]
    if entry_point.dist is not None:
        for below in inner:
            yield Path(str(entry_point.dist.locate_file("/".join([parts[0], *below]))))
    # An editable install keeps its files elsewhere. Finding a top-level name imports nothing.
    spec = importlib.util.find_spec(parts[0])
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for below in inner:
            yield Path(root, *below)
