"""The statements behind values: each function runs on a connection, inside a transaction of the store."""

# ruff: noqa: S608 - what is put into statements is words of this module, never of a caller

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

import msgspec

from smol.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from smol.types import Attachment
from smol.units.storage.records import Change, Deleted, Entry, Item, Limits, Written
from smol.units.storage.texts import index_text, unindex_text

__all__ = [
    "Draft",
    "bury",
    "changes_since",
    "check",
    "delete",
    "get",
    "last_sequence",
    "list_entries",
    "make_collection",
    "put",
]

_PUT_FACTS = """
SELECT k.id, k.items, k.bytes, coalesce(k.max_items, ?3), coalesce(k.max_bytes, ?4), k.text_fields,
       t.items, t.bytes, i.id, i.version, i.deleted, i.bytes, i.expires_ms,
       (SELECT max(coalesce((SELECT max(version) FROM items), 0), value) FROM marks WHERE name = 'forgotten')
FROM collections k JOIN collections t ON t.id = 0
LEFT JOIN items i ON i.collection = k.id AND i.key = ?2 WHERE k.name = ?1
"""
_SEQUENCE = "SELECT max(coalesce((SELECT max(version) FROM items), 0), value) FROM marks WHERE name = 'forgotten'"
_ENTRY = """
i.key, i.version, i.bytes, i.created_ms, i.updated_ms, i.expires_ms, i.value, i.media_type, i.name,
(SELECT sha256 FROM objects o WHERE o.id = i.object), k.name, i.object
"""
_LIVE = "NOT i.deleted AND (i.expires_ms IS NULL OR i.expires_ms > ?)"


@dataclass(frozen=True, slots=True)
class Draft:
    """A value about to be put. value: str for JSON text, bytes for bytes, None with `object_id`.

    size_bytes: of value, object and vector. expected_version: 0 for a key that must not exist.
    vector: float32, little endian.
    """

    collection: str
    key: str
    value: str | bytes | bytearray | memoryview | None
    size_bytes: int
    media_type: str | None = None
    name: str | None = None
    object_id: int | None = None
    sha256: str | None = None
    expected_version: int | None = None
    expires_ms: int | None = None
    vector: bytes | None = None


def last_sequence(connection: Connection) -> int:
    """The number of the last change. Never goes back, not even when deletions are forgotten."""
    return int(connection.execute(_SEQUENCE).fetchone()[0])


def make_collection(connection: Connection, name: str, limits: Limits) -> int:
    """The id of a collection, made if it is not there. Raises ResourceExhausted beyond `max_collections`."""
    row = connection.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
    if row is None:
        count = connection.execute("SELECT count(*) - 1 FROM collections").fetchone()[0]
        if count >= limits.max_collections:
            raise ResourceExhausted(
                f"there are {count} collections, the most allowed; drop one first", limit=limits.max_collections
            )
        row = connection.execute("INSERT INTO collections(name) VALUES (?) RETURNING id", (name,)).fetchone()
    return int(row[0])


def put(connection: Connection, draft: Draft, now_ms: int, limits: Limits) -> Written:
    """Write one value. Raises Aborted, AlreadyExists, NotFound (versions) and ResourceExhausted (quota)."""
    arguments = (draft.collection, draft.key, limits.collection_max_items, limits.collection_max_bytes)
    row = connection.execute(_PUT_FACTS, arguments).fetchone()
    if row is None:
        make_collection(connection, draft.collection, limits)
        row = connection.execute(_PUT_FACTS, arguments).fetchone()
    (collection, items, size, max_items, max_bytes, text_fields, all_items, all_bytes,
     item, version, deleted, old_bytes, expires_ms, last) = row  # fmt: skip
    live = item is not None and not deleted and (expires_ms is None or expires_ms > now_ms)
    _compare(draft.key, version if live else 0, draft.expected_version)
    # An expired item that was not swept yet still counts, so it is what the new one replaces.
    more_items = 0 if item is not None and not deleted else 1
    more_bytes = draft.size_bytes - (old_bytes or 0)
    _hold_quota(f"collection {draft.collection!r}", items + more_items, more_items, max_items, "items")
    _hold_quota(f"collection {draft.collection!r}", size + more_bytes, more_bytes, max_bytes, "bytes")
    _hold_quota("the store", all_items + more_items, more_items, limits.max_items, "items")
    _hold_quota("the store", all_bytes + more_bytes, more_bytes, limits.max_bytes, "bytes")
    sequence = last + 1
    values = (sequence, draft.value, draft.media_type, draft.name, draft.object_id, draft.size_bytes, now_ms,
              draft.expires_ms)  # fmt: skip
    if item is None:
        item = connection.execute(
            "INSERT INTO items(version, value, media_type, name, object, bytes, updated_ms, expires_ms, "
            "created_ms, collection, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, now_ms, collection, draft.key),
        ).lastrowid
    else:
        connection.execute(
            "UPDATE items SET version = ?, value = ?, media_type = ?, name = ?, object = ?, bytes = ?, "
            "updated_ms = ?, expires_ms = ?, deleted = 0, created_ms = iif(?, created_ms, ?) WHERE id = ?",
            (*values, live, now_ms, item),
        )
        connection.execute("DELETE FROM vectors WHERE item = ?", (item,))
    if draft.vector is not None:
        connection.execute(
            "INSERT INTO vectors(item, collection, dimensions, data) VALUES (?, ?, ?, ?)",
            (item, collection, len(draft.vector) // 4, draft.vector),
        )
    if text_fields is not None:
        index_text(connection, item, collection, draft.value, msgspec.json.decode(text_fields))
    return Written(key=draft.key, version=sequence, created=not live, bytes=draft.size_bytes, sha256=draft.sha256)


def delete(
    connection: Connection, collection: str, key: str, expected_version: int | None, now_ms: int
) -> Deleted:
    """Delete one value; its row stays as a mark of the change. Raises Aborted, NotFound, AlreadyExists."""
    item, version, live = _find(connection, collection, key, now_ms)
    _compare(key, version if live else 0, expected_version)
    if not live:
        return Deleted(key=key, existed=False, version=0)
    return Deleted(key=key, existed=True, version=bury(connection, item, now_ms))


def check(connection: Connection, collection: str, key: str, expected_version: int | None, now_ms: int) -> int:
    """Compare a version and write nothing; the version, 0 for none. Without a version: the key must exist."""
    _, version, live = _find(connection, collection, key, now_ms)
    if expected_version is None and not live:
        raise NotFound(f"there is no {key!r} in collection {collection!r}")
    _compare(key, version if live else 0, expected_version)
    return version if live else 0


def bury(connection: Connection, item: int, now_ms: int) -> int:
    """Turn an item into the mark of its deletion; the number of the change."""
    sequence = last_sequence(connection) + 1
    connection.execute(
        "UPDATE items SET version = ?, deleted = 1, value = NULL, media_type = NULL, name = NULL, object = NULL, "
        "bytes = 0, updated_ms = ?, expires_ms = NULL WHERE id = ?",
        (sequence, now_ms, item),
    )
    connection.execute("DELETE FROM vectors WHERE item = ?", (item,))
    unindex_text(connection, item)
    return sequence


def get(connection: Connection, collection: str, key: str, now_ms: int) -> tuple[Item, int | None]:
    """An item, and the id of its object when it is a large one. Raises NotFound."""
    row = connection.execute(
        f"SELECT {_ENTRY} FROM collections k JOIN items i ON i.collection = k.id "
        f"WHERE k.name = ? AND i.key = ? AND {_LIVE}",
        (collection, key, now_ms),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no {key!r} in collection {collection!r}", collection=collection, key=key)
    attachment = Attachment(row[6], row[7], row[8]) if isinstance(row[6], bytes) else None
    return Item(**_fields(row, True), attachment=attachment), row[11]


def list_entries(
    connection: Connection,
    collection: str,
    *,
    lower: str,
    after: bool,
    upper: str | None,
    reverse: bool,
    limit: int,
    values: bool,
    values_bytes: int,
    now_ms: int,
) -> tuple[list[Entry], bool]:
    """Entries from `lower` (beyond it when `after`) up to but without `upper`, and whether there are more.

    In reverse, `after` concerns `upper`, which is then never part. Stops early when the JSON values
    together exceed `values_bytes`.
    """
    conditions, arguments = ["k.name = ?", _LIVE, f"i.key {'>' if after and not reverse else '>='} ?"], [
        collection, now_ms, lower,
    ]  # fmt: skip
    if upper is not None:
        conditions.append("i.key < ?")
        arguments.append(upper)
    cursor = connection.execute(
        f"SELECT {_ENTRY} FROM collections k JOIN items i ON i.collection = k.id WHERE {' AND '.join(conditions)} "
        f"ORDER BY i.key {'DESC' if reverse else 'ASC'}",
        arguments,
    )
    entries: list[Entry] = []
    total_bytes = 0
    for row in cursor:
        total_bytes += row[2] if values and isinstance(row[6], str) else 0
        if len(entries) == limit or (entries and total_bytes > values_bytes):
            return entries, True
        entries.append(Entry(**_fields(row, values)))
    return entries, False


def changes_since(
    connection: Connection, since: int, collection: str | None, prefix: str, limit: int, values: bool, now_ms: int
) -> tuple[list[Change], int]:
    """Changes after number `since`, oldest first, and the number up to which all were looked at.

    Raises FailedPrecondition when deletions after `since` are forgotten already; not for 0, which knows
    nothing that could have been deleted.
    """
    forgotten = connection.execute("SELECT value FROM marks WHERE name = 'forgotten'").fetchone()[0]
    if 0 < since < forgotten:
        raise FailedPrecondition(
            f"changes after {since} are forgotten up to {forgotten}; list the collection, "
            "then watch from the page's `sequence`",
            forgotten=forgotten,
        )
    conditions, arguments = ["i.version > ?", "substr(i.key, 1, ?) = ?"], [since, len(prefix), prefix]
    if collection is not None:
        conditions.append("k.name = ?")
        arguments.append(collection)
    rows = connection.execute(
        f"SELECT {_ENTRY}, i.deleted FROM items i JOIN collections k ON k.id = i.collection "
        f"WHERE {' AND '.join(conditions)} ORDER BY i.version LIMIT ?",
        (*arguments, limit),
    ).fetchall()
    changes = [_change(row, values, now_ms) for row in rows]
    return changes, changes[-1].sequence if len(changes) == limit else max(since, last_sequence(connection))


def _change(row: Sequence[Any], values: bool, now_ms: int) -> Change:
    gone = bool(row[12]) or (row[5] is not None and row[5] <= now_ms)
    entry = None if gone else Entry(**_fields(row, values))
    return Change(sequence=row[1], collection=row[10], key=row[0], deleted=gone, entry=entry)


def _fields(row: Sequence[Any], values: bool) -> dict[str, Any]:
    return {
        "key": row[0],
        "version": row[1],
        "bytes": row[2],
        "created_at": row[3] / 1000,
        "updated_at": row[4] / 1000,
        "expires_at": None if row[5] is None else row[5] / 1000,
        "value": msgspec.json.decode(row[6]) if values and isinstance(row[6], str) else None,
        "media_type": row[7],
        "name": row[8],
        "sha256": row[9],
        "collection": row[10],
    }


def _find(connection: Connection, collection: str, key: str, now_ms: int) -> tuple[int, int, bool]:
    row = connection.execute(
        "SELECT i.id, i.version, i.deleted, i.expires_ms FROM collections k JOIN items i ON i.collection = k.id "
        "WHERE k.name = ? AND i.key = ?",
        (collection, key),
    ).fetchone()
    if row is None:
        return 0, 0, False
    return row[0], row[1], not row[2] and (row[3] is None or row[3] > now_ms)


def _compare(key: str, version: int, expected: int | None) -> None:
    if expected is None or expected == version:
        return
    if expected == 0:
        raise AlreadyExists(f"{key!r} exists, at version {version}", key=key, version=version)
    if version == 0:
        raise NotFound(f"{key!r} does not exist, expected version {expected}", key=key)
    raise Aborted(
        f"{key!r} is at version {version}, not {expected}; read it and try again", key=key, version=version
    )


def _hold_quota(whose: str, after: int, growth: int, limit: int, unit: str) -> None:
    # What is over a limit that was lowered may still shrink.
    if after > limit and growth > 0:
        raise ResourceExhausted(
            f"{whose} would hold {after} {unit}, {limit} are allowed; delete something or raise the limit",
            limit=limit,
            needed=after,
            unit=unit,
        )
