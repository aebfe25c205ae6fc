"""Numbered migrations: how a file made by an older version comes up to date.

The number lives in the file's `user_version`. Each migration runs in a transaction of its own, so a
crash leaves the file at the one before or the one after. There is no way down: restore a backup.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from smol.errors import FailedPrecondition

__all__ = ["Migration", "current_version", "migrate"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. number: 1, 2, 3 … without gaps. sql: statements, without transaction control."""

    number: int
    title: str
    sql: str


def current_version(connection: sqlite3.Connection) -> int:
    """The number of the last migration the file has had; 0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the file up to the last of `migrations`.

    Raises `FailedPrecondition` for a file that a newer version made, and `sqlite3.Error` from a step.
    """
    numbers = [migration.number for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise FailedPrecondition(f"migrations must be numbered 1, 2, 3 … without gaps, not {numbers}")
    version = current_version(connection)
    if version > len(numbers):
        raise FailedPrecondition(
            f"the file is at version {version}, this program knows {len(numbers)}; use a newer program",
            file_version=version,
            known_version=len(numbers),
        )
    for migration in migrations[version:]:
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{migration.sql}\n;PRAGMA user_version = {migration.number};\nCOMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.rollback()
            raise
