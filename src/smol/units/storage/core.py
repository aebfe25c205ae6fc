"""What all operations of the storage unit share: the store, the clock, the limits, the change signal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

import msgspec

from smol.errors import InvalidArgument, SmolError, Unavailable
from smol.sdk import Attachment, Context, Unit
from smol.store import Options, Store
from smol.types import Json
from smol.units.storage.items import Draft
from smol.units.storage.migrations import MIGRATIONS
from smol.units.storage.outcomes import once
from smol.units.storage.records import DATA_BYTES_MAX, JSON_BYTES_MAX, Limits
from smol.units.storage.sweep import next_due_ms, sweep_step
from smol.units.storage.vectors import pack

__all__ = ["Core"]

T = TypeVar("T")
_SWEEP_SECONDS_MAX = 60.0


class Core(Unit):
    """Opens and closes the store, sweeps it, and runs the transactions of the operations."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._store: Store | None = None
        self._limits = Limits()
        self._folder = Path()
        self._changed = asyncio.Event()
        self._sweep_due = asyncio.Event()
        self._pinned: Counter[int] = Counter()
        self._exclusive = asyncio.Lock()

    async def provision(self, context: Context) -> None:
        try:
            self._limits = msgspec.convert(dict(context.settings), Limits)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"[units.storage] in smol.toml: {error}") from None
        self._folder = context.data_dir
        options = Options(synchronous=self._limits.synchronous, when_corrupt=self._limits.when_corrupt)
        path = self._folder / "storage.db"
        self._store = await asyncio.to_thread(Store.open, path, MIGRATIONS, options)
        for damaged in self._store.statistics().set_aside:
            context.log.error("a damaged store lies at %s: salvage what you can, then delete it", damaged)

    async def close(self) -> None:
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    async def serve(self, context: Context) -> None:
        """Sweep whenever something is due."""
        while True:
            self._sweep_due.clear()
            try:
                await self.sweep()
                due_ms = await self.store.read(next_due_ms)
            except SmolError as error:
                # Closed for a restore, a full or failing disk: reads go on, so this must not end the unit.
                context.log.warning("sweeping failed, it is tried again in a minute: %s", error)
                due_ms = None
            wait_seconds = _SWEEP_SECONDS_MAX if due_ms is None else (due_ms - self.now_ms()) / 1000
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sweep_due.wait(), min(max(wait_seconds, 0.05), _SWEEP_SECONDS_MAX))

    async def sweep(self) -> int:
        """Remove what has expired and what nobody refers to; how many items expired."""
        total, more = 0, True
        while more:
            now_ms, pinned = self.now_ms(), frozenset(self._pinned)
            expired, more = await self.store.write(lambda c: sweep_step(c, now_ms, self._limits, pinned))  # noqa: B023
            total += expired
        if total:
            self.tell_watchers()
        return total

    @property
    def store(self) -> Store:
        if self._store is None:
            raise Unavailable("the store is not open yet")
        return self._store

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    def tell_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def expiry_ms(self, ttl_seconds: float | None) -> int | None:
        if ttl_seconds is None:
            return None
        if not 0 < ttl_seconds <= 10**10:
            raise InvalidArgument(f"ttl_seconds must be above 0 and at most 10^10, not {ttl_seconds}")
        self._sweep_due.set()
        return self.now_ms() + max(1, int(ttl_seconds * 1000))

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Write, then wake who watches."""
        result = await self.store.write(work)
        self.tell_watchers()
        return result

    async def change_once(
        self, key: str, request: bytes, work: Callable[[Connection, int], T], kind: type[T]
    ) -> T:
        """`change`, at most once under an idempotency key. `work` is given the time in milliseconds."""
        now_ms = self.now_ms()
        expires_ms = now_ms + int(self._limits.outcome_seconds * 1000)
        return await self.change(
            lambda c: once(c, key, request, lambda: work(c, now_ms), kind, now_ms, expires_ms)
        )

    def draft(
        self,
        collection: str,
        key: str,
        value: Json,
        attachment: Attachment | None,
        expected_version: int | None,
        ttl_seconds: float | None,
        vector: list[float] | None,
    ) -> Draft:
        """A value checked and encoded. Raises InvalidArgument, also for what is too large."""
        packed = None if vector is None else pack(vector)
        extra: dict[str, Any] = {
            "collection": collection,
            "key": checked_key(key),
            "expected_version": expected_version,
            "expires_ms": self.expiry_ms(ttl_seconds),
            "vector": packed,
        }
        vector_bytes = len(packed or b"")
        if attachment is None:
            text = _json_text(value)
            return Draft(value=text.decode(), size_bytes=len(text) + vector_bytes, **extra)
        if value is not None:
            raise InvalidArgument("give either a value or an attachment, not both")
        if len(attachment) > DATA_BYTES_MAX:
            raise InvalidArgument(
                f"{len(attachment)} bytes are beyond the {DATA_BYTES_MAX} of one put; use begin_upload"
            )
        return Draft(
            value=attachment.data,
            size_bytes=len(attachment) + vector_bytes,
            media_type=attachment.media_type,
            name=attachment.name,
            **extra,
        )


def checked_key(key: str) -> str:
    """The key, if SQLite can order it. Raises InvalidArgument."""
    if not key or "\0" in key or any("\ud800" <= character <= "\udfff" for character in key):
        raise InvalidArgument(f"a key is text without NUL and lone surrogates, not {key!r}")
    return key


def _json_text(value: Json) -> bytes:
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidArgument(f"a value must be JSON: {error}") from None
    if len(text) > JSON_BYTES_MAX:
        raise InvalidArgument(
            f"a JSON value of {len(text)} bytes is beyond {JSON_BYTES_MAX}; put it as an attachment"
        )
    return text
