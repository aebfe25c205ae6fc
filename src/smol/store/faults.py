"""What an SQLite error means to a caller, and which errors end a whole transaction.

The codes are chosen by what the caller can do: make room (`ResourceExhausted`), try again
(`Unavailable`), restore from a copy (`DataLoss`), or report a bug (`Internal`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from smol.errors import (
    DataLoss,
    Internal,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    SmolError,
    Unavailable,
)

__all__ = ["ends_transaction", "is_corruption", "is_full", "translate"]

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ENDING = _CORRUPT | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


def _primary_code(error: BaseException) -> int:
    """The primary result code: the low byte of SQLite's extended code; 0 when there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_corruption(error: BaseException) -> bool:
    """True when the file is damaged, or is no database at all."""
    return _primary_code(error) in _CORRUPT


def is_full(error: BaseException) -> bool:
    """True when there was no room: on the disk, or under the file's page limit."""
    return _primary_code(error) == sqlite3.SQLITE_FULL


def ends_transaction(error: BaseException) -> bool:
    """True for errors after which SQLite may have rolled back everything, not the statement alone."""
    return isinstance(error, MemoryError) or _primary_code(error) in _ENDING


def translate(error: BaseException, path: Path) -> BaseException:
    """The error to hand to a caller; what did not come from SQLite is returned as it is."""
    if isinstance(error, SmolError) or not isinstance(error, sqlite3.Error):
        return error
    reason = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    code = _primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return ResourceExhausted(
            f"no room left for {path} ({reason}); nothing was written. Free disk space, then try again",
            resource="disk",
            path=str(path),
        )
    if code == sqlite3.SQLITE_NOMEM:
        return ResourceExhausted(f"SQLite ran out of memory on {path}; ask for less", resource="memory")
    if code in _CORRUPT:
        return DataLoss(
            f"{path} is damaged ({reason}). Restart to have it set aside, then restore a backup",
            path=str(path),
        )
    if code == sqlite3.SQLITE_IOERR:
        return Unavailable(
            f"the disk failed {path} ({reason}); the write was not acknowledged and may or may not be kept. "
            "Read before writing it again, or use an idempotency key; check the disk",
            path=str(path),
            outcome="unknown",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return Unavailable(f"{path} is locked by another process ({reason}); try again", path=str(path))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return PermissionDenied(f"{path} cannot be written ({reason}); check its owner and mode")
    if code == sqlite3.SQLITE_CANTOPEN:
        return Unavailable(f"{path} cannot be opened ({reason}); check that its folder exists")
    if code == sqlite3.SQLITE_TOOBIG:
        return InvalidArgument(f"a value is beyond SQLite's limit of one value ({reason}); store it in chunks")
    return Internal(f"SQLite refused a statement on {path} ({reason})")
