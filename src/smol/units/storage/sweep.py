"""What time takes away: expired items, old deletions, outcomes, resting uploads, unreferenced objects.

Work is cut into short transactions, so that sweeping never holds the writer for long.
"""

from __future__ import annotations

from collections.abc import Set
from sqlite3 import Connection

from smol.units.storage.items import bury
from smol.units.storage.records import Limits

__all__ = ["next_due_ms", "sweep_step"]

_ITEMS = 256
_CHUNKS = 16
_PAGES = 2048


def sweep_step(connection: Connection, now_ms: int, limits: Limits, pinned: Set[int]) -> tuple[int, bool]:
    """Do a little: how many items expired, and whether there may be more to do.

    pinned: ids of objects being downloaded, which stay.
    """
    expired = connection.execute(
        "SELECT id FROM items WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?", (now_ms, _ITEMS)
    ).fetchall()
    for (item,) in expired:
        bury(connection, item, now_ms)
    forgotten = _forget_deletions(connection, limits.kept_deletions)
    outcomes = connection.execute(
        "DELETE FROM outcomes WHERE key IN (SELECT key FROM outcomes WHERE expires_ms <= ? LIMIT ?)",
        (now_ms, _ITEMS),
    ).rowcount
    connection.execute(
        "UPDATE objects SET upload = NULL, expires_ms = NULL WHERE upload IS NOT NULL AND expires_ms <= ?",
        (now_ms,),
    )
    freed = _free_chunks(connection, pinned)
    return len(expired), bool(forgotten or freed or outcomes == _ITEMS or len(expired) == _ITEMS)


def next_due_ms(connection: Connection) -> int | None:
    """When the next thing expires, in milliseconds since 1970."""
    due: int | None = connection.execute(
        "SELECT min(due) FROM (SELECT min(expires_ms) AS due FROM items WHERE expires_ms IS NOT NULL "
        "UNION ALL SELECT min(expires_ms) FROM outcomes UNION ALL SELECT min(expires_ms) FROM objects)"
    ).fetchone()[0]
    return due


def _forget_deletions(connection: Connection, kept: int) -> int:
    """Remove the oldest marks of deletions beyond `kept`, and note up to where `watch` is blind."""
    rows = connection.execute(
        "SELECT id, version FROM items WHERE deleted ORDER BY version DESC LIMIT ? OFFSET ?", (_ITEMS, kept)
    ).fetchall()
    if rows:
        connection.execute("UPDATE marks SET value = max(value, ?) WHERE name = 'forgotten'", (rows[0][1],))
        connection.executemany("DELETE FROM items WHERE id = ?", [(item,) for item, _ in rows])
    return len(rows)


def _free_chunks(connection: Connection, pinned: Set[int]) -> bool:
    for (object_id,) in connection.execute(
        "SELECT id FROM objects WHERE sha256 IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM items WHERE object = objects.id)"
    ).fetchall():
        if object_id not in pinned:
            # Without a hash no new upload can find it, so it is safe to take apart over several steps.
            connection.execute("UPDATE objects SET sha256 = NULL WHERE id = ?", (object_id,))
    dead = connection.execute("SELECT id FROM objects WHERE sha256 IS NULL AND upload IS NULL LIMIT 1").fetchone()
    if dead is not None:
        # From the end of the file, so that giving pages back right after finds few in its way.
        removed = connection.execute(
            "DELETE FROM chunks WHERE id IN (SELECT id FROM chunks WHERE object = ? ORDER BY start DESC LIMIT ?)",
            (dead[0], _CHUNKS),
        ).rowcount
        if not removed:
            connection.execute("DELETE FROM objects WHERE id = ?", dead)
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    for _ in range(min(free, _PAGES)):
        connection.execute("PRAGMA incremental_vacuum(1)")  # Python takes one step, which is one page, a call
    return dead is not None or free > _PAGES
