"""The manifest of a unit: what its `unit.toml` says that its types cannot.

Covers reading and checking one manifest. Finding manifests is `discovery`; whether the units that
one `needs` exist is the registry's to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from smol import tables
from smol.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from smol.sizes import KIB, MIB, Size, format_bytes

__all__ = ["FILE_NAME", "Manifest", "UnitName"]

FILE_NAME = "unit.toml"
LARGEST_FILE_BYTES = 256 * KIB

# Patterns end in \Z, since $ would let a newline through.
UnitName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
ClassPath: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z")
]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One unit, as declared. Exactly one of `class_path`, `command` and `go` is given.

    name: of the unit; the part of `math.evaluate` before the dot.
    version: of the unit, free text.
    kind: control steers the host, tool computes, neural runs a model, service also serves a face.
    description: one line for people.
    class_path: the key `class`: the Python class, as `package.module:Class`.
    command: the executable and its arguments; it speaks the wire on the descriptor it inherits.
    go: a Go package to build and execute: its directory, relative to the manifest's.
    worker: name of the process; units that give the same one share it. Default: the unit's name.
    isolation: `worker`, a process of its own.
    reserved_bytes: memory reserved before the worker starts, without models; what was measured counts later.
    idle_seconds: a worker that nobody called for so long is unloaded.
    weight: above 1 its worker is kept longer than others when memory is short, below 1 less long.
    pinned: its worker is not unloaded to make room, nor for being idle; for what would be lost.
    warm: it is loaded when the host starts, and then as any other.
    concurrency: calls at once in the worker.
    queue: calls waiting for the worker; the next one is refused.
    requirements: PEP 508 requirements of a Python unit; their syntax is checked when they are installed.
    needs: units that are started before this one.
    restart: `on-demand` starts it for the next call, `always` at once, `never` not at all.
    max_restarts: more restarts than this within `restart_period_seconds` make the unit `failed`.
    start_timeout_seconds: from start to ready.
    stop_timeout_seconds: from drain to kill.
    permissions: what the unit asks for beyond its own process.
    fallback: unit that answers while this one is unavailable.
    path: directory of the manifest; filled by the loader.
    """

    name: UnitName
    version: Text = "0"
    kind: Literal["control", "tool", "neural", "service"] = "tool"
    description: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    class_path: ClassPath | None = msgspec.field(name="class", default=None)
    command: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()
    go: Text | None = None
    worker: UnitName = ""
    isolation: Literal["worker"] = "worker"
    reserved_bytes: Size = 32 * MIB
    idle_seconds: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 600.0
    weight: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    pinned: bool = False
    warm: bool = False
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    queue: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 64
    requirements: tuple[Text, ...] = ()
    needs: tuple[UnitName, ...] = ()
    restart: Literal["on-demand", "always", "never"] = "on-demand"
    max_restarts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 5
    restart_period_seconds: Seconds = 60.0
    start_timeout_seconds: Seconds = 30.0
    stop_timeout_seconds: Seconds = 5.0
    permissions: tuple[Text, ...] = ()
    fallback: UnitName | None = None
    path: Annotated[Path | None, tables.INTERNAL] = None

    def __post_init__(self) -> None:
        """Raises ValueError for keys that contradict each other."""
        if [self.class_path is not None, bool(self.command), self.go is not None].count(True) != 1:
            raise ValueError(
                "give exactly one of `class` (a Python class), `command` (an executable) and `go` (a Go package)"
            )
        if self.executable and self.requirements:
            raise ValueError("`requirements` are for Python units; an executable brings its own")
        if self.name in self.needs:
            raise ValueError(f"the unit {self.name!r} cannot need itself")
        if self.name == self.fallback:
            raise ValueError(f"the unit {self.name!r} cannot be its own fallback")
        if not self.worker:
            msgspec.structs.force_setattr(self, "worker", self.name)

    @property
    def executable(self) -> bool:
        """Whether it is a program of its own, rather than a Python class."""
        return self.class_path is None

    @property
    def argv(self) -> tuple[str, ...]:
        """`command`, where an executable given with a slash is taken from the manifest's directory."""
        if not self.command or "/" not in self.command[0] or self.path is None:
            return self.command
        return (str(self.path / self.command[0]), *self.command[1:])

    @classmethod
    def from_directory(cls, path: str | Path) -> Manifest:
        """Read `unit.toml` in the directory. Raises `SmolError`."""
        directory = Path(path).absolute()
        file = directory / FILE_NAME
        try:
            with file.open("rb") as stream:
                data = stream.read(LARGEST_FILE_BYTES + 1)
            if len(data) > LARGEST_FILE_BYTES:
                raise InvalidArgument(f"{file}: longer than {format_bytes(LARGEST_FILE_BYTES)}")
            return cls.from_toml(data.decode(), str(file), directory)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{file}: not UTF-8 at byte {error.start}") from None
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"no unit here: {file} does not exist") from None
        except PermissionError:
            raise PermissionDenied(f"{file} may not be read by this user") from None
        except OSError as error:
            raise FailedPrecondition(f"{file} cannot be read: {error.strerror}") from None

    @classmethod
    def from_toml(cls, text: str, where: str, path: Path | None = None) -> Manifest:
        """Read a manifest's text. `where` names it in errors. Raises `InvalidArgument`."""
        source = tables.Source(where, text, path or Path())
        manifest = tables.decode(tables.parse(text, where), _Document, source).unit
        return msgspec.structs.replace(manifest, path=path)


class _Document(msgspec.Struct, frozen=True):
    unit: Manifest
