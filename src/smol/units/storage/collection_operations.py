"""Operations on collections: list, configure, drop, search, nearest, status."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from smol.errors import NotFound
from smol.sdk import operation
from smol.types import Json
from smol.units.storage import texts, vectors
from smol.units.storage.core import Core
from smol.units.storage.items import bury, last_sequence, make_collection
from smol.units.storage.records import CollectionInfo, CollectionName, Match, Status

__all__ = ["CollectionOperations"]

Where: TypeAlias = dict[str, Json]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
_DROPPED = 500
_INFO = "SELECT name, items, bytes, max_items, max_bytes, text_fields FROM collections"


class CollectionOperations(Core):
    """Collections: their limits, what is searched in them, and searching."""

    @operation(read_only=True)
    async def collections(self) -> list[CollectionInfo]:
        """List the collections with their sizes and limits, by name."""
        return await self.store.read(
            lambda c: [self._info(row) for row in c.execute(f"{_INFO} WHERE id > 0 ORDER BY name")]
        )

    @operation(idempotent=True)
    async def configure(
        self,
        collection: CollectionName,
        max_items: Annotated[int, Meta(ge=0, le=2**62)] | None = None,
        max_bytes: Annotated[int, Meta(ge=0, le=2**62)] | None = None,
        text_fields: list[str] | None = None,
    ) -> CollectionInfo:
        """Set the limits of a collection and what full-text search covers; makes it if need be.

        A limit below what is there deletes nothing; it refuses growth.

        max_items: most items; without it, the unit's own limit.
        max_bytes: most bytes of values; without it, the unit's own limit.
        text_fields: dotted paths of the JSON strings to search, `*` for all strings. A change indexes
            the whole collection anew, during which other writes wait.
        """
        fields = text_fields or []

        def work(connection: Connection) -> CollectionInfo:
            identity = make_collection(connection, collection, self._limits)
            before = connection.execute(
                "SELECT text_fields FROM collections WHERE id = ?", (identity,)
            ).fetchone()[0]
            encoded = msgspec.json.encode(fields).decode() if fields else None
            connection.execute(
                "UPDATE collections SET max_items = ?, max_bytes = ?, text_fields = ? WHERE id = ?",
                (max_items, max_bytes, encoded, identity),
            )
            if encoded != before:
                texts.reindex(connection, identity, fields)
            return self._info(connection.execute(f"{_INFO} WHERE id = ?", (identity,)).fetchone())

        return await self.store.write(work)

    @operation(idempotent=True, destructive=True)
    async def drop(self, collection: CollectionName) -> int:
        """Delete a collection with all its items; how many there were.

        Watchers see each key deleted. Goes in steps of 500 items: a crash may leave some, then drop again.
        """
        now_ms = self.now_ms()

        def work(connection: Connection) -> int:
            row = connection.execute("SELECT id FROM collections WHERE name = ?", (collection,)).fetchone()
            if row is None:
                raise NotFound(f"there is no collection {collection!r}")
            items = connection.execute(
                "SELECT id FROM items WHERE collection = ? AND NOT deleted LIMIT ?", (row[0], _DROPPED)
            ).fetchall()
            for (item,) in items:
                bury(connection, item, now_ms)
            if len(items) < _DROPPED:
                connection.execute(
                    "UPDATE collections SET max_items = NULL, max_bytes = NULL, text_fields = NULL WHERE id = ?",
                    row,
                )
            return len(items)

        total = 0
        while True:
            dropped = await self.change(work)
            total += dropped
            if dropped < _DROPPED:
                self._sweep_due.set()
                return total

    @operation(read_only=True)
    async def search(
        self,
        query: Annotated[str, Meta(min_length=1, max_length=1000)],
        collection: CollectionName = "default",
        where: Where | None = None,
        limit: Limit = 10,
    ) -> list[Match]:
        """Find JSON values by words, best first (bm25), with a snippet around what was found.

        The collection must be configured with `text_fields`. Case and accents do not matter.

        query: words that must all occur; "a phrase"; pre* for a beginning; -word for one that must not.
        where: only values in which each dotted path equals the given scalar.
        """
        now_ms = self.now_ms()

        def work(connection: Connection) -> list[Match]:
            row = connection.execute(
                "SELECT text_fields FROM collections WHERE name = ?", (collection,)
            ).fetchone()
            if row is None or row[0] is None:
                raise NotFound(f"collection {collection!r} has no full text; configure it with text_fields")
            return texts.search(connection, collection, query, where or {}, limit, now_ms)

        return await self.store.read(work)

    @operation(read_only=True)
    async def nearest(
        self,
        vector: list[float],
        collection: CollectionName = "default",
        metric: vectors.Metric = "cosine",
        where: Where | None = None,
        limit: Limit = 10,
    ) -> list[Match]:
        """Find the values whose vectors are nearest to one, nearest first. Exact, not approximate.

        Compares with the vectors of the same length that were put with values.

        vector: 1 to 4096 numbers.
        metric: what nearness is; a score is higher when nearer.
        where: only values in which each dotted path equals the given scalar.
        """
        packed, now_ms = vectors.pack(vector), self.now_ms()
        return await self.store.read(
            lambda c: vectors.nearest(c, collection, packed, metric, where or {}, limit, now_ms)
        )

    @operation(read_only=True)
    async def status(self) -> Status:
        """Say how much the store holds, its limits, and how its disk fares."""
        statistics = self.store.statistics()

        def work(connection: Connection) -> tuple[int, int, int, int]:
            items, size = connection.execute("SELECT items, bytes FROM collections WHERE id = 0").fetchone()
            count = connection.execute("SELECT count(*) - 1 FROM collections").fetchone()[0]
            return items, size, count, last_sequence(connection)

        items, size, count, sequence = await self.store.read(work)
        return Status(
            items=items,
            bytes=size,
            max_items=self._limits.max_items,
            max_bytes=self._limits.max_bytes,
            sequence=sequence,
            collections=count,
            file_bytes=statistics.file_bytes,
            log_bytes=statistics.log_bytes,
            writes=statistics.jobs,
            commits=statistics.commits,
            failures=statistics.failures,
            check=statistics.check,
            set_aside=[str(path) for path in statistics.set_aside],
        )

    def _info(self, row: tuple[Any, ...]) -> CollectionInfo:
        name, items, size, max_items, max_bytes, text_fields = row
        return CollectionInfo(
            name=name,
            items=items,
            bytes=size,
            max_items=self._limits.collection_max_items if max_items is None else max_items,
            max_bytes=self._limits.collection_max_bytes if max_bytes is None else max_bytes,
            text_fields=[] if text_fields is None else msgspec.json.decode(text_fields),
        )
