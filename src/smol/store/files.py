"""The database file: locking it, connecting, checking it, setting a damaged one aside.

Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from smol.errors import Unavailable
from smol.store.faults import is_corruption

__all__ = ["Lock", "check", "connect", "set_aside", "set_aside_files", "sync_folder"]

SIDE_FILES = ("-wal", "-shm")
_ASIDE = ".corrupt-"


class Lock:
    """An advisory lock beside the file, so that two processes never own one store. Freed by death."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        """Raises `Unavailable` when another holder keeps it longer than `wait_seconds`."""
        self._path = path.with_name(path.name + ".lock")
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    os.close(self._descriptor)
                    raise Unavailable(
                        f"{path} is open in another process; stop that one first", path=str(path)
                    ) from None
                time.sleep(0.02)

    def release(self) -> None:
        os.close(self._descriptor)


def connect(
    path: Path, *, cache_kib: int, synchronous: str = "FULL", query_only: bool = False
) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun and ended by name.

    secure_delete is off because it would write every freed page of a large object once more.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        if not path.exists() or not path.stat().st_size:  # an old file would take a write for nothing
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        if query_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, limit_seconds: float) -> str:
    """Look for damage: `ok`, `unfinished` when it took longer than `limit_seconds`, or what was found.

    SQLite's quick_check reads every page, so the time grows with the file: about a second a GiB from a
    warm cache.
    """
    timer = threading.Timer(limit_seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if is_corruption(error):
            return str(error)
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return "unfinished"
        raise
    finally:
        timer.cancel()
        timer.join()
    return found


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its side files so that nothing is lost, and say the new name.

    The side files keep their endings, so that the copy still opens with SQLite's own tools.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = path.with_name(f"{path.name}{_ASIDE}{stamp}")
    # The side files go first: a fresh database must never meet the log of the damaged one.
    for ending in (*SIDE_FILES, ""):
        source = path.with_name(path.name + ending)
        if source.exists():
            source.rename(target.with_name(target.name + ending))
    sync_folder(path.parent)
    return target


def set_aside_files(path: Path) -> list[Path]:
    """The damaged files that still lie beside `path`, oldest first."""
    found = path.parent.glob(f"{path.name}{_ASIDE}*")
    return sorted(file for file in found if not file.name.endswith(SIDE_FILES))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
