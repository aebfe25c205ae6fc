"""Operations on the whole: backup, restore, export and load.

A backup is a consistent copy of the file, made while all goes on. An export is JSON Lines for other programs:
each item as it is when its turn comes.
"""

# ruff: noqa: S608 - what is put into statements is words of this module, never of a caller

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated, TypeAlias

from msgspec import Meta

from smol.errors import InvalidArgument, NotFound, SmolError
from smol.sdk import Attachment, operation
from smol.units.storage import objects
from smol.units.storage.collection_operations import CollectionOperations
from smol.units.storage.items import Draft, get, last_sequence, list_entries, put
from smol.units.storage.lines import Configure, ItemLine, Line, Piece, decode, item_line, read_lines, write_line
from smol.units.storage.object_operations import ObjectOperations
from smol.units.storage.records import DATA_BYTES_MAX, BackupInfo, CollectionName, Entry, Loaded
from smol.units.storage.value_operations import ValueOperations

__all__ = ["ArchiveOperations"]

BackupName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$(?!\n)")]
_ENDING = ".smol-storage"
_EXPORT_BYTES = 256 * 1024
_PAGE = 100


class ArchiveOperations(ValueOperations, ObjectOperations, CollectionOperations):
    """Copies of the whole store."""

    @operation()
    async def backup(self, name: BackupName) -> BackupInfo:
        """Write a consistent copy of the store under a new name, while reads and writes go on."""
        path = self._backup_path(name)
        await asyncio.to_thread(self.store.back_up, path)
        return _backup_info(path)

    @operation(read_only=True)
    async def backups(self) -> list[BackupInfo]:
        """List the backups, newest first."""
        found = [_backup_info(path) for path in (self._folder / "backups").glob(f"*{_ENDING}")]
        return sorted(found, key=lambda info: (-info.created_at, info.name))

    @operation(idempotent=True, destructive=True)
    async def delete_backup(self, name: BackupName) -> bool:
        """Delete a backup; false when there was none."""
        path = self._backup_path(name)
        existed = path.exists()
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return existed

    @operation(destructive=True)
    async def restore(self, name: BackupName) -> str:
        """Put a backup in the place of all that is stored; answers where the former file is kept.

        The backup is checked first. Calls meanwhile fail with UNAVAILABLE; watchers must list anew.
        Only the file before the last restore is kept.
        """
        path = self._backup_path(name)
        if not path.exists():
            raise NotFound(f"there is no backup {name!r}; `backups` lists them")
        async with self._exclusive:
            sequence = await self.store.read(last_sequence)
            # Versions go on above those given out before, so that none ever means two things.
            prepare = (
                "UPDATE marks SET value = max(value, "
                f"(SELECT coalesce(max(version), 0) FROM items), {sequence}) + 1 WHERE name = 'forgotten';"
            )
            former = await asyncio.to_thread(self.store.restore, path, prepare=prepare)
        self._hashes.clear()
        self.tell_watchers()
        return str(former)

    @operation(read_only=True)
    async def export(self, collection: CollectionName | None = None) -> AsyncIterator[Attachment]:
        """Stream JSON Lines of a collection, or of all: each chunk holds whole lines.

        collection: of this one; without it, of all.
        """
        infos = [info for info in await self.collections() if collection in (None, info.name)]
        if collection is not None and not infos:
            raise NotFound(f"there is no collection {collection!r}")
        waiting = bytearray()
        for info in infos:
            async for line in self._export_lines(info.name):
                waiting += write_line(line)
                if len(waiting) >= _EXPORT_BYTES:
                    yield Attachment(bytes(waiting), "application/jsonl")
                    waiting.clear()
        if waiting:
            yield Attachment(bytes(waiting), "application/jsonl")

    @operation(idempotent=True)
    async def load(self, lines: Attachment) -> Loaded:
        """Store the lines of an export; whole lines, at most 8 MiB a call.

        Lines are taken in order. When one is refused, the error's details tell which, and those before it
        stay stored: mend it and load again.
        """
        if len(lines) > DATA_BYTES_MAX:
            raise InvalidArgument(
                f"{len(lines)} bytes are beyond the {DATA_BYTES_MAX} of one load; send fewer lines"
            )
        items = chunks = 0
        for number, line in read_lines(lines.data):
            try:
                await self._load_line(line)
            except SmolError as error:
                error.details = {**error.details, "line": number}
                raise
            items += isinstance(line, ItemLine)
            chunks += isinstance(line, Piece)
        return Loaded(items=items, chunks=chunks)

    async def _export_lines(self, collection: str) -> AsyncIterator[Line]:
        row = await self.store.read(
            lambda c: c.execute(
                "SELECT max_items, max_bytes FROM collections WHERE name = ?", (collection,)
            ).fetchone()
        )
        info = next(info for info in await self.collections() if info.name == collection)
        yield Configure(configure=collection, max_items=row[0], max_bytes=row[1], text_fields=info.text_fields)
        after: str | None = None
        while True:
            entries = await self._export_page(collection, after)
            for entry, line, object_id in entries:
                if object_id is not None and entry.sha256 is not None:
                    with self._pin(object_id):
                        async for piece in self._export_object(object_id, entry):
                            yield piece
                yield line
            if not entries:
                return
            after = entries[-1][0].key

    async def _export_page(self, collection: str, after: str | None) -> list[tuple[Entry, ItemLine, int | None]]:
        now_ms = self.now_ms()

        def work(connection: Connection) -> Iterator[tuple[Entry, ItemLine, int | None]]:
            entries, _ = list_entries(
                connection, collection, lower=after or "", after=after is not None, upper=None, reverse=False,
                limit=_PAGE, values=True, values_bytes=_EXPORT_BYTES, now_ms=now_ms,
            )  # fmt: skip
            total_bytes = 0
            for entry in entries:
                item, object_id = get(connection, collection, entry.key, now_ms)
                data = None if item.attachment is None else bytes(item.attachment.data)
                yield entry, item_line(entry, data, _vector(connection, entry)), object_id
                total_bytes += len(data or b"")
                if total_bytes > _EXPORT_BYTES:
                    return

        return await self.store.read(lambda c: list(work(c)))

    async def _export_object(self, object_id: int, entry: Entry) -> AsyncIterator[Piece]:
        position = 0
        while position < entry.bytes:
            _, data = await self._chunk(object_id, position)
            encoded = base64.b64encode(data).decode()
            yield Piece(object=entry.sha256 or "", start=position, data=encoded)
            position += len(data)

    async def _load_line(self, line: Line) -> None:
        if isinstance(line, Configure):
            await self.configure(line.configure, line.max_items, line.max_bytes, line.text_fields)
        elif isinstance(line, Piece):
            await self._load_piece(line)
        elif line.sha256 is None:
            action = line.action(self.now_ms() / 1000)
            draft = None if action is None else self.draft_of(action)
            if draft is not None:
                now_ms = self.now_ms()
                await self.change(lambda c: put(c, draft, now_ms, self._limits))
        else:
            await self._load_object(line)

    async def _load_piece(self, piece: Piece) -> None:
        """Pieces gather in an upload named after the hash, so that loading goes on after a break."""
        token = f"load:{piece.object}"
        expires_ms = self._upload_expiry_ms()

        def work(connection: Connection) -> None:
            if connection.execute("SELECT 1 FROM objects WHERE upload = ?", (token,)).fetchone() is None:
                objects.begin(connection, token, expires_ms)

        if piece.start == 0:
            await self.store.write(lambda c: objects.abandon(c, token))
            await self.store.write(work)
        await self.append(token, piece.start, Attachment(decode(piece.data)))

    async def _load_object(self, line: ItemLine) -> None:
        expires_at = line.expires_at
        draft = Draft(
            collection=line.collection,
            key=line.key,
            value=None,
            size_bytes=0,
            media_type=line.media_type,
            name=line.name,
            expires_ms=None if expires_at is None else int(expires_at * 1000),
        )
        await self.finish(f"load:{line.sha256}", draft, line.sha256, "", b"")

    def _backup_path(self, name: str) -> Path:
        return self._folder / "backups" / f"{name}{_ENDING}"


def _backup_info(path: Path) -> BackupInfo:
    facts = path.stat()
    return BackupInfo(name=path.name.removesuffix(_ENDING), bytes=facts.st_size, created_at=facts.st_mtime)


def _vector(connection: Connection, entry: Entry) -> bytes | None:
    row = connection.execute(
        "SELECT v.data FROM vectors v JOIN items i ON i.id = v.item WHERE i.version = ?", (entry.version,)
    ).fetchone()
    return None if row is None else bytes(row[0])
