"""Operations on large objects: upload in chunks, download as a stream.

The wire has server streams only, so an upload is a sequence of calls; it survives a restart of the unit.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from sqlite3 import Connection
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Meta

from smol.errors import Aborted, FailedPrecondition, InvalidArgument
from smol.sdk import Attachment, operation
from smol.types import Json
from smol.units.storage import objects
from smol.units.storage.core import Core, checked_key
from smol.units.storage.items import Draft, get, put
from smol.units.storage.outcomes import fingerprint
from smol.units.storage.records import (
    CHUNK_BYTES_MAX,
    PIECE_BYTES,
    CollectionName,
    Key,
    Upload,
    Written,
)

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ObjectOperations"]

Offset: TypeAlias = Annotated[int, Meta(ge=0)]
_HASHES_KEPT = 64


class ObjectOperations(Core):
    """Bytes too large for one message."""

    def __init__(self, *arguments: Json, **named: Json) -> None:
        super().__init__(*arguments, **named)
        # Hashes of open uploads with the offset they cover. One that is missing is taken from the store.
        self._hashes: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()

    @operation()
    async def begin_upload(self) -> Upload:
        """Open an upload of a large object; go on with `append`, end with `finish_upload`.

        An upload that rests longer than an hour is given up.
        """
        token = secrets.token_hex(16)
        expires_ms = self._upload_expiry_ms()
        await self.store.write(lambda c: objects.begin(c, token, expires_ms))
        self._hashes[token] = (0, hashlib.sha256())
        return self._upload(token, 0, expires_ms)

    @operation(idempotent=True)
    async def append(self, upload: str, offset: Offset, chunk: Attachment) -> Upload:
        """Add a chunk to an upload; it is on the disk when this returns.

        The last chunk may be sent again, so that a call without answer can be repeated.

        offset: where the chunk starts: the sum of those before it.
        chunk: 1 byte to 1 MiB.
        """
        if not 1 <= len(chunk) <= CHUNK_BYTES_MAX:
            raise InvalidArgument(f"a chunk has 1 to {CHUNK_BYTES_MAX} bytes, not {len(chunk)}")
        expires_ms = self._upload_expiry_ms()
        known = self._hashes.get(upload)
        digest = None
        if known is not None and known[0] == offset:
            digest = known[1].copy()
            await asyncio.to_thread(digest.update, chunk.data)
        size = await self.store.write(
            lambda c: objects.append(c, upload, offset, chunk.data, expires_ms, self._limits)
        )
        if digest is not None:
            self._remember(upload, size, digest)
        return self._upload(upload, size, expires_ms)

    @operation()
    async def finish_upload(
        self,
        upload: str,
        key: Key,
        collection: CollectionName = "default",
        media_type: str = "application/octet-stream",
        name: str | None = None,
        sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None,
        expected_version: Offset | None = None,
        ttl_seconds: Annotated[float, Meta(gt=0)] | None = None,
    ) -> Written:
        """Store what was uploaded under a key. May be repeated: the upload is its own idempotency key.

        sha256: what the bytes must hash to, in hexadecimal; otherwise nothing is stored.
        expected_version: write only if the key is at this version; 0 for a key that must not exist.
        ttl_seconds: how long the value lives; without it, until it is deleted.
        """
        draft = Draft(
            collection=collection,
            key=checked_key(key),
            value=None,
            size_bytes=0,
            media_type=media_type,
            name=name,
            expected_version=expected_version,
            expires_ms=self.expiry_ms(ttl_seconds),
        )
        request = fingerprint("finish", key, collection, media_type, name, sha256, expected_version, ttl_seconds)
        return await self.finish(upload, draft, sha256, f"upload:{upload}", request)

    async def finish(
        self, upload: str, draft: Draft, sha256: str | None, once_key: str, request: bytes
    ) -> Written:
        """Store an upload as `draft` says. once_key: its idempotency key, or an empty string."""
        digest, size_bytes = await self._hash_of(upload)
        if digest and sha256 is not None and digest != sha256.lower():
            raise FailedPrecondition(
                f"the upload hashes to {digest}, not {sha256}; upload it again", sha256=digest
            )

        def work(connection: Connection, now_ms: int) -> Written:
            object_id = objects.complete(connection, upload, digest, size_bytes)
            full = replace(draft, object_id=object_id, sha256=digest, size_bytes=size_bytes)
            return put(connection, full, now_ms, self._limits)

        written = await self.change_once(once_key, request, work, Written)
        self._hashes.pop(upload, None)
        self._sweep_due.set()
        return written

    @operation(idempotent=True, destructive=True)
    async def abort_upload(self, upload: str) -> bool:
        """Give an upload up; false when there was none."""
        self._hashes.pop(upload, None)
        aborted = await self.store.write(lambda c: objects.abandon(c, upload))
        self._sweep_due.set()
        return aborted

    @operation(read_only=True)
    async def download(
        self,
        key: Key,
        collection: CollectionName = "default",
        start: Offset = 0,
        length: Offset | None = None,
    ) -> AsyncIterator[Attachment]:
        """Stream the bytes of a value, in chunks of at most 256 KiB, back to back.

        JSON values come as their text. An object replaced meanwhile is still sent to its end.

        start: first byte; length: how many, all by default.
        """
        now_ms = self.now_ms()
        item, object_id = await self.store.read(lambda c: get(c, collection, key, now_ms))
        kind = (item.media_type or "application/json", item.name)
        if object_id is None:
            data = msgspec.json.encode(item.value) if item.attachment is None else item.attachment.data
            for piece in _cut(memoryview(data), start, len(data) if length is None else start + length):
                yield Attachment(piece, *kind)
            return
        end = item.bytes if length is None else min(item.bytes, start + length)
        with self._pin(object_id):
            while start < end:
                chunk_start, data = await self._chunk(object_id, start)
                for piece in _cut(memoryview(data), start - chunk_start, end - chunk_start):
                    yield Attachment(piece, *kind)
                start = chunk_start + len(data)

    async def _chunk(self, object_id: int, position: int) -> tuple[int, bytes]:
        found = await self.store.read(lambda c: objects.chunk_at(c, object_id, position))
        if found is None:
            raise Aborted("the object was deleted before it could be read; fetch the item again")
        return found

    @contextmanager
    def _pin(self, object_id: int) -> Iterator[None]:
        """Keep an object from being swept away for a while."""
        self._pinned[object_id] += 1
        try:
            yield
        finally:
            self._pinned[object_id] -= 1
            if not self._pinned[object_id]:
                del self._pinned[object_id]
                self._sweep_due.set()

    async def _hash_of(self, upload: str) -> tuple[str, int]:
        """Hash and size of an upload; an empty hash for one that is not open, so that `once` can answer."""
        row = await self.store.read(
            lambda c: c.execute("SELECT id, bytes FROM objects WHERE upload = ?", (upload,)).fetchone()
        )
        if row is None:
            return "", 0
        object_id, size = row
        known = self._hashes.get(upload)
        if known is not None and known[0] == size:
            return known[1].hexdigest(), size
        digest, position = hashlib.sha256(), 0
        while position < size:
            _, data = await self._chunk(object_id, position)
            await asyncio.to_thread(digest.update, data)
            position += len(data)
        self._remember(upload, size, digest)
        return digest.hexdigest(), size

    def _remember(self, upload: str, size: int, digest: _Hash) -> None:
        self._hashes[upload] = (size, digest)
        self._hashes.move_to_end(upload)
        while len(self._hashes) > _HASHES_KEPT:
            self._hashes.popitem(last=False)

    def _upload_expiry_ms(self) -> int:
        return self.now_ms() + int(self._limits.upload_seconds * 1000)

    def _upload(self, token: str, offset: int, expires_ms: int) -> Upload:
        return Upload(upload=token, offset=offset, chunk_bytes_max=CHUNK_BYTES_MAX, expires_at=expires_ms / 1000)


def _cut(data: memoryview, start: int, end: int) -> Iterator[memoryview]:
    """`data[start:end]` in pieces fit for a message; `end` may lie beyond the data."""
    end = min(end, len(data))
    for position in range(start, end, PIECE_BYTES):
        yield data[position : min(end, position + PIECE_BYTES)]
