"""Full text: which words of a JSON value are indexed, and ranked search over them.

Uses SQLite's FTS5 with its bm25 ranking. Queries are plain words, never FTS5's own language, so that no
query of a user is a syntax error: `"a phrase"`, `prefix*`, `-without`, and AND between all.
"""

# ruff: noqa: S608 - what is put into statements is words of this module, never of a caller

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from sqlite3 import Connection
from typing import Any

import msgspec

from smol.errors import InvalidArgument
from smol.types import Json
from smol.units.storage.records import Match

__all__ = ["conditions_of", "index_text", "reindex", "search", "unindex_text"]

_TERM = re.compile(r'(-?)(?:"([^"]*)"|([^\s"]+))')


def index_text(
    connection: Connection, item: int, collection: int, value: object, text_fields: Sequence[str]
) -> None:
    """Index the strings of a JSON text under `text_fields` (dotted paths, `*` for all); else nothing."""
    unindex_text(connection, item)
    if not isinstance(value, str) or not text_fields:
        return
    body = "\n".join(_texts(msgspec.json.decode(value), text_fields))
    if body:
        connection.execute("INSERT INTO texts(rowid, collection, body) VALUES (?, ?, ?)", (item, collection, body))


def unindex_text(connection: Connection, item: int) -> None:
    connection.execute("DELETE FROM texts WHERE rowid = ?", (item,))


def reindex(connection: Connection, collection: int, text_fields: Sequence[str]) -> None:
    """Index a whole collection anew. Takes the writer for about 50 µs an item."""
    connection.execute(
        "DELETE FROM texts WHERE rowid IN (SELECT id FROM items WHERE collection = ?)", (collection,)
    )
    rows = connection.execute(
        "SELECT id, value FROM items WHERE collection = ? AND typeof(value) = 'text'", (collection,)
    )
    for item, value in rows:
        index_text(connection, item, collection, value, text_fields)


def search(
    connection: Connection, collection: str, query: str, where: Mapping[str, Json], limit: int, now_ms: int
) -> list[Match]:
    """The best `limit` matches, best first. Raises InvalidArgument for a query without words."""
    conditions, arguments = conditions_of(where)
    rows = connection.execute(
        "SELECT i.key, i.version, -bm25(texts), i.value, snippet(texts, 1, '[', ']', '…', 16) "
        "FROM texts JOIN items i ON i.id = texts.rowid JOIN collections k ON k.id = i.collection "
        "WHERE texts MATCH ? AND k.name = ? AND (i.expires_ms IS NULL OR i.expires_ms > ?)"
        f"{conditions} ORDER BY bm25(texts), i.key LIMIT ?",
        (_fts_query(query), collection, now_ms, *arguments, limit),
    )
    return [
        Match(key=key, version=version, score=score, value=msgspec.json.decode(value), snippet=snippet)
        for key, version, score, value, snippet in rows
    ]


def conditions_of(where: Mapping[str, Json]) -> tuple[str, list[Any]]:
    """SQL that holds where each dotted path of the JSON value equals its scalar, and its arguments."""
    sql, arguments = "", []
    for path, expected in where.items():
        if isinstance(expected, (dict, list)):
            raise InvalidArgument(f"`where` compares with scalars, {path!r} is given {type(expected).__name__}")
        if isinstance(expected, int) and abs(expected) >= 2**63:
            raise InvalidArgument(f"`where` compares with integers of 64 bits, {path!r} is given {expected}")
        parts = path.split(".")
        if not all(parts) or '"' in path:
            raise InvalidArgument(f"`where` takes dotted paths without quotes, not {path!r}")
        sql += " AND typeof(i.value) = 'text' AND json_extract(i.value, ?) IS ?"
        arguments += ["$" + "".join(f'."{part}"' for part in parts), expected]
    return sql, arguments


def _fts_query(query: str) -> str:
    wanted: list[str] = []
    unwanted: list[str] = []
    for minus, phrase, word in _TERM.findall(query.replace("\0", " ")):
        text = phrase or word.rstrip("*")
        if not any(character.isalnum() for character in text):
            continue
        (unwanted if minus else wanted).append(f'"{text}"' + ("*" if word.endswith("*") else ""))
    if not wanted:
        raise InvalidArgument(f"the query {query!r} has no word to look for")
    return " AND ".join(wanted) + "".join(f" NOT {term}" for term in unwanted)


def _texts(value: Json, text_fields: Sequence[str]) -> Iterator[str]:
    for path in text_fields:
        found: list[Json] = [value]
        for part in path.split(".") if path != "*" else ():
            found = [item[part] for item in _spread(found) if isinstance(item, dict) and part in item]
        yield from _strings(found)


def _spread(values: list[Json]) -> Iterator[Json]:
    """Lists on the way are looked into, so that `tags.name` covers each tag."""
    for value in values:
        yield from _spread(value) if isinstance(value, list) else (value,)


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
