"""The files of models on this machine: fetched on first use, verified each time, pinned and pruned.

A file is handed out only if its SHA-256 is the catalog's. Two processes may want the same file at
once: a lock lets one of them fetch while the other waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from smol.errors import Cancelled, DataLoss, ResourceExhausted, SmolError, Unavailable
from smol.models.catalog import Asset
from smol.models.fetch import Cancel, Progress, check_source, fetch, local_path

__all__ = ["MIRROR_VARIABLE", "Store", "Stored"]

MIRROR_VARIABLE = "SMOL_MODEL_MIRROR"
_EMBEDDED = Path(__file__).parent / "embedded"
_ATTEMPTS = 4
_LOCK_POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


class Stored(msgspec.Struct, frozen=True):
    """A file in the store. used: when it was last handed out, seconds since the epoch."""

    file: str
    bytes: int
    pinned: bool
    used: float


class Store:
    """A directory of verified files.

    directory: made when first written to. mirror: a directory (searched with its subdirectories), or
    a URL that the file's name is appended to, tried before the catalog's own mirrors.
    imported: where the files are that the user brought; they have no other source.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        mirror: str | None = None,
        embedded: Path = _EMBEDDED,
        imported: Path | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.directory = Path(directory)
        self._mirror = check_source(mirror) if mirror else None
        self._embedded = embedded
        self._imported = imported if imported is not None else self.directory
        self._wait = wait

    @classmethod
    def from_environment(cls, directory: str | os.PathLike[str], imported: Path | None = None) -> Store:
        """A store whose mirror is named by SMOL_MODEL_MIRROR, if at all."""
        return cls(directory, mirror=os.environ.get(MIRROR_VARIABLE), imported=imported)

    def is_present(self, asset: Asset) -> bool:
        """Whether the file is here and needs no fetching; its content is checked by `obtain`."""
        return self._home(asset).is_file()

    def sources(self, asset: Asset) -> list[str]:
        """Where the file may be fetched from, in the order of trying; a mirror without it is left out."""
        if asset.imported:
            return []
        return [*_in_mirror(self._mirror, asset.file), *(check_source(url) for url in asset.mirrors)]

    def obtain(
        self,
        asset: Asset,
        *,
        progress: Progress = lambda done, total: None,
        cancelled: Cancel = lambda: False,
    ) -> Path:
        """The path of the file, verified; it is fetched if it is not here.

        Raises Unavailable when it can't be had now, DataLoss when all there is has other content,
        ResourceExhausted when the disk is full, Cancelled.
        """
        home = self._home(asset)
        if asset.embedded or asset.imported:
            if not home.is_file() or (found := _sha256(home)) != asset.sha256:
                found = found if home.is_file() else "no file"
                again = "install the package" if asset.embedded else "remove the model and import it"
                raise DataLoss(f"{_mismatch(asset, found)}; {again} again")
            return home
        if home.is_file() and _sha256(home) == asset.sha256:
            with contextlib.suppress(OSError):  # A read-only store serves as well; it forgets who was used.
                os.utime(home)
            return home
        with self._lock(asset, cancelled):
            return self._obtain_locked(asset, home, progress, cancelled)

    def pin(self, asset: Asset) -> None:
        """Keep the file when the store is pruned."""
        self._make_directory()
        self._pin_mark(asset.file).touch()

    def unpin(self, asset: Asset) -> None:
        """Let the file go when the store is pruned."""
        self._pin_mark(asset.file).unlink(missing_ok=True)

    def contents(self) -> list[Stored]:
        """The files that are here, most recently used first; embedded ones are not of the store."""
        found = []
        for path in self.directory.glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError):  # Pruned by another process meanwhile.
                status = path.stat()
                pinned = self._pin_mark(path.name).exists()
                found.append(Stored(path.name, status.st_size, pinned, status.st_mtime))
        return sorted(found, key=lambda stored: -stored.used)

    def prune(self, max_bytes: int = 0) -> list[Stored]:
        """Delete files that are not pinned, least recently used first, until `max_bytes` remain.

        Unfinished downloads and damaged files go too. A worker that has a file loaded keeps it.
        """
        for leftover in (*self.directory.glob(".*.part"), *self.directory.glob(".*.damaged")):
            leftover.unlink(missing_ok=True)
        stored = self.contents()
        total = sum(item.bytes for item in stored)
        removed = []
        for item in reversed(stored):
            if total <= max_bytes:
                break
            if not item.pinned:
                (self.directory / item.file).unlink(missing_ok=True)
                total -= item.bytes
                removed.append(item)
        return removed

    def _obtain_locked(self, asset: Asset, home: Path, progress: Progress, cancelled: Cancel) -> Path:
        damaged: DataLoss | None = None
        if home.is_file():
            found = _sha256(home)
            if found == asset.sha256:  # Another process fetched it while this one waited for the lock.
                return home
            damaged = DataLoss(_mismatch(asset, found), expected=asset.sha256, found=found)
            log.warning("%s; it was put aside and is fetched again", damaged)
            home.rename(self.directory / f".{asset.file}.damaged")
        failures: list[SmolError] = []
        for source in self.sources(asset):
            try:
                self._fetch_verified(asset, source, home, progress, cancelled)
                return home
            except (Cancelled, ResourceExhausted):
                raise
            except SmolError as error:
                log.warning("model file %s: %s", asset.file, error)
                failures.append(error)
        lost = next((error for error in failures if isinstance(error, DataLoss)), damaged)
        if lost is not None:
            raise lost
        raise self._unavailable(asset, failures)

    def _fetch_verified(
        self, asset: Asset, source: str, home: Path, progress: Progress, cancelled: Cancel
    ) -> None:
        part = self.directory / f".{asset.sha256[:16]}.part"
        for attempt in range(_ATTEMPTS):
            before = part.stat().st_size if part.exists() else 0
            try:
                fetch(source, part, asset.bytes, progress, cancelled)
            except Unavailable:
                came_further = part.exists() and part.stat().st_size > before
                if attempt == _ATTEMPTS - 1 or not (came_further or before):
                    raise
                self._wait(0.25 * 2**attempt)
                continue
            found = _sha256(part)
            if found == asset.sha256:
                part.replace(home)
                return
            part.unlink()
            if not before:
                raise DataLoss(f"{source}: {_mismatch(asset, found)}", expected=asset.sha256, found=found)
            # The beginning came from somewhere else, perhaps another version: once more from scratch.
        raise Unavailable(f"{source} could not be read in {_ATTEMPTS} attempts")

    def _unavailable(self, asset: Asset, failures: list[SmolError]) -> Unavailable:
        if failures:
            tried = "; ".join(error.message for error in failures)
            return Unavailable(f"{asset.file} can't be fetched: {tried}. Go online, or {_advice(asset)}")
        return Unavailable(f"model file {asset.file} is on no public server: {_advice(asset)}")

    def _home(self, asset: Asset) -> Path:
        if asset.embedded:
            return self._embedded / asset.file
        return (self._imported if asset.imported else self.directory) / asset.file

    def _pin_mark(self, file: str) -> Path:
        return self.directory / f".{file}.pinned"

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the model store {self.directory} can't be made: {error.strerror}") from error

    @contextlib.contextmanager
    def _lock(self, asset: Asset, cancelled: Cancel) -> Iterator[None]:
        """One maker per file. Polled, not awaited, so that a caller that goes away is let go."""
        self._make_directory()
        try:
            file = open(self.directory / f".{asset.file}.lock", "a")  # noqa: SIM115  # Closed below.
        except OSError as error:
            raise Unavailable(f"the model store {self.directory} can't be written: {error.strerror}") from error
        with file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if cancelled():
                        raise Cancelled(f"waiting for {asset.file} was given up") from None
                    self._wait(_LOCK_POLL_SECONDS)
            yield


def _in_mirror(mirror: str | None, file: str) -> list[str]:
    """Where a mirror has the file: one source, or none when a directory lacks it."""
    if mirror is None:
        return []
    root = local_path(mirror)
    if root is None:
        return [f"{mirror.rstrip('/')}/{file}"]
    if (root / file).is_file():
        return [str(root / file)]
    return [str(path) for path in sorted(root.rglob(file)) if path.is_file()][:1]


def _advice(asset: Asset) -> str:
    return f"set {MIRROR_VARIABLE} to a directory or URL that has {asset.file}"


def _mismatch(asset: Asset, found: str) -> str:
    return f"{asset.file} has the wrong content: expected sha256 {asset.sha256}, found {found}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
