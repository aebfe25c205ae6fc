"""A store: one SQLite file, opened, checked and migrated, with `read` and `write` for an event loop.

Opening, closing and restoring block: call them from a thread (`asyncio.to_thread(Store.open, …)`).
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from smol.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from smol.store.faults import is_corruption, translate
from smol.store.files import Lock, check, connect, set_aside, set_aside_files, sync_folder
from smol.store.migrations import Migration, current_version, migrate
from smol.store.readers import Readers
from smol.store.writer import Writer

__all__ = ["Options", "Statistics", "Store"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How a store behaves.

    synchronous: FULL syncs each commit; NORMAL may lose the last commits at a power cut, not at a crash.
    when_corrupt: `set_aside` renames a damaged file, logs it and starts empty; `refuse` raises `DataLoss`.
    check_seconds: how long the check at opening may take before it is called unfinished.
    cache_kib: page cache of each connection, KiB.
    """

    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    when_corrupt: Literal["set_aside", "refuse"] = "set_aside"
    check_seconds: float = 5.0
    lock_wait_seconds: float = 5.0
    readers: int = 2
    cache_kib: int = 1024
    group_jobs: int = 256
    waiting_jobs: int = 4096


@dataclass(frozen=True, slots=True)
class Statistics:
    """jobs: writes acknowledged, in `commits` transactions; failures: transactions undone."""

    jobs: int
    commits: int
    failures: int
    file_bytes: int
    log_bytes: int
    check: str
    set_aside: tuple[Path, ...]


class Store:
    """Use `Store.open`. One process owns a store at a time."""

    def __init__(self, path: Path, migrations: Sequence[Migration], options: Options) -> None:
        self.path = path
        self._migrations = migrations
        self._options = options
        self._closed = False
        self._check = ""
        self._writer: Writer
        self._readers: Readers
        self._lock = Lock(path, options.lock_wait_seconds)
        try:
            self._start()
        except BaseException as error:
            self._lock.release()
            translated = translate(error, path)
            if translated is error:
                raise
            raise translated from error

    @classmethod
    def open(cls, path: Path, migrations: Sequence[Migration], options: Options | None = None) -> Store:
        """Open `path`, or make it; check it for damage; migrate it.

        Raises `DataLoss` (damaged, and `when_corrupt` is `refuse`), `FailedPrecondition` (made by a newer
        version), `Unavailable` (another process has it, or the disk fails), `PermissionDenied`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, migrations, options or Options())

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the writer; returns after its effects are on the disk.

        What `work` raises undoes it alone. It must not commit, must not touch anything but its
        connection, and may be run again when a transaction it shared failed.
        """
        result: T = await self._writer.submit(work).future
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a read-only connection, in one consistent state of the file."""
        result: T = await self._readers.submit(work).future
        return result

    def statistics(self) -> Statistics:
        return Statistics(
            jobs=self._writer.jobs,
            commits=self._writer.commits,
            failures=self._writer.failures,
            file_bytes=_size_bytes(self.path),
            log_bytes=_size_bytes(self.path.with_name(self.path.name + "-wal")),
            check=self._check,
            set_aside=tuple(set_aside_files(self.path)),
        )

    def close(self) -> None:
        """Finish what waits and close the file. Blocks; may be called twice."""
        self._readers.close()
        self._writer.close()
        if not self._closed:
            self._closed = True
            self._lock.release()

    def back_up(self, target: Path) -> int:
        """Write a consistent copy of the running store to `target`; its size in bytes. Blocks.

        The copy appears under its name when it is whole and on the disk. Raises `AlreadyExists`.
        """
        if target.exists():
            raise AlreadyExists(f"{target} exists; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            with closing(connect(self.path, cache_kib=self._options.cache_kib)) as connection:
                connection.execute("VACUUM INTO ?", (str(partial),))
            _sync_file(partial)
            partial.rename(target)
            sync_folder(target.parent)
        except sqlite3.Error as error:
            raise translate(error, target) from error
        finally:
            partial.unlink(missing_ok=True)
        return _size_bytes(target)

    def restore(self, backup: Path, *, prepare: str = "") -> Path:
        """Put `backup` in the place of the store's content and say where the former file is now. Blocks.

        The backup is checked and copied first; the swap is one rename, so a crash leaves either the
        former state or the restored one. Calls meanwhile fail with `Unavailable`.
        prepare: statements run on the copy before the swap.
        """
        fresh = self.path.with_name(self.path.name + ".restoring")
        self._copy_checked(backup, fresh, prepare)
        self._readers.close()
        self._writer.close()
        former = self.path.with_name(f"{self.path.name}.before-restore")
        try:
            if _size_bytes(self.path.with_name(self.path.name + "-wal")):
                raise FailedPrecondition(f"the log of {self.path} could not be emptied; nothing was restored")
            former.unlink(missing_ok=True)
            os.link(self.path, former)
            os.replace(fresh, self.path)
            sync_folder(self.path.parent)
        finally:
            fresh.unlink(missing_ok=True)
            self._start()
        return former

    def _copy_checked(self, backup: Path, fresh: Path, prepare: str) -> None:
        if not backup.is_file():
            raise NotFound(f"there is no backup {backup}")
        try:
            shutil.copyfile(backup, fresh)
            with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
                if (found := check(connection, threading.TIMEOUT_MAX)) != "ok":
                    raise DataLoss(f"the backup {backup} is damaged ({found}); nothing was restored")
                if current_version(connection) == 0:
                    raise FailedPrecondition(f"{backup} is not a backup of this store")
                migrate(connection, self._migrations)
                connection.executescript(prepare)
                connection.execute("PRAGMA journal_mode = DELETE")
            _sync_file(fresh)
        except BaseException as error:
            fresh.unlink(missing_ok=True)
            translated = translate(error, backup)
            if translated is error:
                raise
            raise translated from error

    def _start(self) -> None:
        self._closed = False
        connection = self._open_checked()
        options = self._options
        self._writer = Writer(connection, self.path, options.group_jobs, options.waiting_jobs)
        self._readers = Readers(
            lambda: connect(self.path, cache_kib=options.cache_kib, query_only=True),
            self.path,
            options.readers,
            options.waiting_jobs,
        )

    def _open_checked(self) -> sqlite3.Connection:
        """A writer's connection to a file that was checked and migrated."""
        try:
            connection = self._connect()
            self._check = check(connection, self._options.check_seconds)
        except sqlite3.Error as error:
            if not is_corruption(error):
                raise
            return self._open_instead(str(error))
        if self._check == "unfinished":
            _log.warning("the check of %s was stopped after %s s", self.path, self._options.check_seconds)
        elif self._check != "ok":
            connection.close()
            return self._open_instead(self._check)
        try:
            migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_instead(self, found: str) -> sqlite3.Connection:
        """Deal with a damaged file as `when_corrupt` says."""
        if self._options.when_corrupt == "refuse":
            raise DataLoss(
                f"{self.path} is damaged ({found}); move it away or restore a backup", path=str(self.path)
            )
        target = set_aside(self.path)
        _log.error("%s was damaged (%s); it is now %s, and the store starts empty", self.path, found, target)
        connection = self._connect()
        self._check = f"set aside as {target.name}: {found}"
        migrate(connection, self._migrations)
        return connection

    def _connect(self) -> sqlite3.Connection:
        return connect(self.path, cache_kib=self._options.cache_kib, synchronous=self._options.synchronous)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
