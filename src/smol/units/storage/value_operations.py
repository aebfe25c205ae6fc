"""Operations on values: put, get, delete, list, batch, watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from sqlite3 import Connection
from typing import Annotated, TypeAlias

from msgspec import Meta

from smol.errors import InvalidArgument
from smol.sdk import Attachment, Context, operation
from smol.types import Json
from smol.units.storage.core import Core, checked_key
from smol.units.storage.items import (
    Draft,
    changes_since,
    check,
    delete,
    get,
    last_sequence,
    list_entries,
    put,
)
from smol.units.storage.outcomes import fingerprint
from smol.units.storage.records import Action, Change, CollectionName, Deleted, Done, Item, Key, Page, Written

__all__ = ["ValueOperations"]

Version: TypeAlias = Annotated[int, Meta(ge=0)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
Vector: TypeAlias = list[float]
Actions: TypeAlias = Annotated[list[Action], Meta(min_length=1, max_length=1000)]
Results: TypeAlias = list[Done]

_PAGE_BYTES = 512 * 1024
_CHANGES = 64


class ValueOperations(Core):
    """Values by key, in collections that come into being with their first value."""

    @operation()
    async def put(
        self,
        context: Context,
        key: Key,
        value: Json = None,
        collection: CollectionName = "default",
        attachment: Attachment | None = None,
        expected_version: Version | None = None,
        ttl_seconds: Seconds | None = None,
        vector: Vector | None = None,
        idempotency_key: str = "",
    ) -> Written:
        """Store a value under a key, in place of what was there.

        Returns after the value is on the disk.

        value: any JSON value, at most 768 KiB as text.
        attachment: bytes instead of a value, at most 8 MiB; larger ones are uploaded.
        expected_version: write only if the key is at this version; 0 for a key that must not exist.
        ttl_seconds: how long the value lives; without it, until it is deleted.
        vector: numbers for `nearest`, 1 to 4096 of them.
        idempotency_key: the same request under the same key is done once; remembered for a day.
        """
        draft = self.draft(collection, key, value, attachment, expected_version, ttl_seconds, vector)
        once_key = idempotency_key or context.key
        request = b""
        if once_key:
            request = fingerprint("put", key, value, collection, attachment, expected_version, ttl_seconds, vector)
        return await self.change_once(
            once_key, request, lambda c, now_ms: put(c, draft, now_ms, self._limits), Written
        )

    @operation(read_only=True)
    async def get(self, key: Key, collection: CollectionName = "default") -> Item:
        """Fetch the value of a key.

        A large object comes without its bytes: see `download`.
        """
        now_ms = self.now_ms()
        item, _ = await self.store.read(lambda c: get(c, collection, key, now_ms))
        return item

    @operation(destructive=True)
    async def delete(
        self,
        context: Context,
        key: Key,
        collection: CollectionName = "default",
        expected_version: Version | None = None,
        idempotency_key: str = "",
    ) -> Deleted:
        """Delete a key; not an error when it does not exist.

        expected_version: delete only if the key is at this version.
        idempotency_key: the same request under the same key is done once; remembered for a day.
        """
        once_key = idempotency_key or context.key
        request = fingerprint("delete", key, collection, expected_version) if once_key else b""
        result = await self.change_once(
            once_key, request, lambda c, now_ms: delete(c, collection, key, expected_version, now_ms), Deleted
        )
        self._sweep_due.set()
        return result

    @operation(read_only=True)
    async def list(
        self,
        collection: CollectionName = "default",
        prefix: str = "",
        start: str | None = None,
        end: str | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Meta(ge=1, le=1000)] = 100,
        reverse: bool = False,
        values: bool = True,
    ) -> Page:
        """List entries in the order of their keys (by code point).

        A page may hold fewer than `limit` entries although there are more: look at `cursor`.

        prefix: only keys that begin so.
        start: only keys from this one on; end: only keys before this one.
        cursor: from the page before, with the other arguments unchanged.
        reverse: from the last key to the first.
        values: with the JSON values; bytes are never part of a list.
        """
        lower, after = max(prefix, start or ""), False
        bounds = [bound for bound in (end, _successor(prefix)) if bound is not None]
        if cursor is not None and reverse:
            bounds.append(cursor)
        elif cursor is not None:
            lower, after = max(lower, cursor), cursor >= lower
        upper = min(bounds) if bounds else None
        now_ms = self.now_ms()

        def work(connection: Connection) -> Page:
            entries, more = list_entries(
                connection, collection, lower=lower, after=after, upper=upper, reverse=reverse, limit=limit,
                values=values, values_bytes=_PAGE_BYTES, now_ms=now_ms,
            )  # fmt: skip
            following = entries[-1].key if more else None
            return Page(entries=entries, cursor=following, sequence=last_sequence(connection))

        return await self.store.read(work)

    @operation(destructive=True)
    async def batch(self, context: Context, actions: Actions, idempotency_key: str = "") -> Results:
        """Do up to 1,000 actions as one: all of them or none.

        Answers with what each did, in order.

        actions: each a put, a delete, or a check of a version, seeing what those before it did.
        idempotency_key: the same request under the same key is done once; remembered for a day.
        """
        drafts = [self.draft_of(action) for action in actions]
        once_key = idempotency_key or context.key
        request = fingerprint("batch", actions) if once_key else b""

        def work(connection: Connection, now_ms: int) -> Results:
            return [self._act(connection, a, d, now_ms) for a, d in zip(actions, drafts, strict=True)]

        results = await self.change_once(once_key, request, work, Results)
        self._sweep_due.set()
        return results

    @operation(read_only=True)
    async def watch(
        self,
        collection: CollectionName | None = None,
        prefix: str = "",
        since: Version | None = None,
        values: bool = True,
    ) -> AsyncIterator[Change]:
        """Follow changes, without end.

        Each key is told with its newest state; states that were replaced before they were told are
        left out. Nothing is missed: after a break, go on `since` the last `sequence` seen.

        collection: of this collection; without it, of all.
        since: number of the last change known; without it, from now on; 0 for everything there is.
        values: with the JSON values.
        """
        position = since if since is not None else await self.store.read(last_sequence)
        while True:
            signal = self._changed
            changes, position = await self._changes(position, collection, prefix, values)
            for change in changes:
                yield change
            if not changes:
                await signal.wait()

    def _act(self, connection: Connection, action: Action, draft: Draft | None, now_ms: int) -> Done:
        if draft is not None:
            written = put(connection, draft, now_ms, self._limits)
            return Done(do="put", key=action.key, version=written.version, existed=not written.created)
        where = (connection, action.collection, action.key, action.expected_version, now_ms)
        if action.do == "check":
            version = check(*where)
            return Done(do="check", key=action.key, version=version, existed=version > 0)
        deleted = delete(*where)
        return Done(do="delete", key=action.key, version=deleted.version, existed=deleted.existed)

    async def _changes(
        self, since: int, collection: str | None, prefix: str, values: bool
    ) -> tuple[tuple[Change, ...], int]:
        now_ms = self.now_ms()

        def work(connection: Connection) -> tuple[tuple[Change, ...], int]:
            changes, upto = changes_since(connection, since, collection, prefix, _CHANGES, values, now_ms)
            return tuple(changes), upto

        return await self.store.read(work)

    def draft_of(self, action: Action) -> Draft | None:
        """What an action puts; None for one that puts nothing."""
        if action.do == "put":
            return self.draft(
                action.collection, action.key, action.value, action.attachment, action.expected_version,
                action.ttl_seconds, action.vector,
            )  # fmt: skip
        if action.value is not None or action.attachment is not None or action.vector is not None:
            raise InvalidArgument(f"a {action.do} takes no value (key {action.key!r})")
        checked_key(action.key)
        return None


def _successor(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; None when there is no bound."""
    for length in range(len(prefix), 0, -1):
        point = ord(prefix[length - 1]) + 1
        if point <= 0x10FFFF:
            return prefix[: length - 1] + chr(0xE000 if point == 0xD800 else point)
    return None
