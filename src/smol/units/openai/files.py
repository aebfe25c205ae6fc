"""Uploaded files: `/v1/files`, and what a message refers to by `file_id`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from smol.locations import own_directory
from smol.sizes import KIB, MIB, format_bytes
from smol.types import Attachment
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import new_id

__all__ = ["MOST_BYTES", "File", "Files", "Upload"]

MOST_FILES = 1000
MOST_BYTES = 256 * MIB
_FULL = f"there is room for {MOST_FILES} files and {format_bytes(MOST_BYTES)}: delete some with /v1/files"
_WRITE_BYTES = 256 * KIB
_ID = re.compile(r"file-[0-9a-f]{24}\Z")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as OpenAI describes it, with its media type."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    media_type: str = "application/octet-stream"

    def public(self) -> dict[str, Any]:
        """As `/v1/files` tells it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Upload:
    """A file on its way in: on the disk as far as it has come."""

    def __init__(self, path: Path, take: Callable[[int], None]) -> None:
        self.path = path
        self.size_bytes = 0
        self._take = take
        self._waiting = bytearray()
        self._file = path.open("xb", buffering=0)

    async def write(self, data: bytes | bytearray) -> None:
        """Add to it. Raises Refusal 507 when there is no room for more."""
        self._take(len(data))
        self.size_bytes += len(data)
        self._waiting += data
        if len(self._waiting) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Have everything on the disk. Raises Refusal 507 when that is full."""
        waiting, self._waiting = self._waiting, bytearray()
        with _told_of_the_disk():
            await asyncio.to_thread(self._write, waiting)

    def close(self) -> None:
        """Let it go, unless it was kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytearray) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]


class Files:
    """Files in one directory, as many and as large as it takes, those on their way in included."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()
        self._arriving_bytes = 0
        self._kept_bytes = 0

    def sweep(self) -> None:
        """Delete what was on its way in when a process before this one ended. To be called before any other."""
        for path in (*self._directory.glob("*.part"), *self._directory.glob("file-*.bin")):
            if path.suffix == ".part" or not path.with_suffix(".json").is_file():
                path.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncGenerator[Upload]:
        """A file to write to and then to `keep`; whatever happens, nothing else of it stays."""
        own_directory(self._directory)
        self._kept_bytes = sum(file.bytes for file in await asyncio.to_thread(self.list))
        upload = Upload(self._directory / f"{new_id('upload-')}.part", self._take)
        try:
            yield upload
        finally:
            self._arriving_bytes -= upload.size_bytes
            upload.close()

    async def keep(self, upload: Upload, name: str, media_type: str, purpose: str) -> File:
        """Keep what was uploaded. Raises Refusal 507 when there is no room."""
        await upload.flush()
        async with self._lock:
            with _told_of_the_disk():
                kept = await asyncio.to_thread(self._keep, upload, name, media_type, purpose)
            self._kept_bytes += kept.bytes
            return kept

    def list(self) -> list[File]:
        """All files, the latest first."""
        found = []
        for path in self._directory.glob("file-*.json"):
            found.append(msgspec.json.decode(path.read_bytes(), type=File))
        return sorted(found, key=lambda file: (-file.created_at, file.id))

    def get(self, file_id: str, param: str = "file_id") -> File:
        """Raises Refusal 404."""
        path = self._path(file_id, ".json", param)
        return msgspec.json.decode(path.read_bytes(), type=File)

    def read(self, file_id: str, param: str = "file_id") -> Attachment:
        """The bytes of a file. Raises Refusal 404."""
        file = self.get(file_id, param)
        return Attachment(self.path(file_id, param).read_bytes(), file.media_type, file.filename)

    def path(self, file_id: str, param: str = "file_id") -> Path:
        """Where the bytes of a file are. Raises Refusal 404."""
        return self._path(file_id, ".bin", param)

    def delete(self, file_id: str) -> None:
        """Raises Refusal 404."""
        self._path(file_id, ".json", "file_id").unlink()
        self._path(file_id, ".bin", "file_id").unlink()

    def _path(self, file_id: str, ending: str, param: str) -> Path:
        path = self._directory / f"{file_id}{ending}"
        if not _ID.match(file_id) or not path.is_file():
            raise Refusal(404, f"no file {file_id!r}", code="NOT_FOUND", param=param)
        return path

    def _take(self, count_bytes: int) -> None:
        """So many bytes more are on their way in, if there is room."""
        if self._kept_bytes + self._arriving_bytes + count_bytes > MOST_BYTES:
            raise _no_room(_FULL)
        self._arriving_bytes += count_bytes

    def _keep(self, upload: Upload, name: str, media_type: str, purpose: str) -> File:
        known = self.list()
        if len(known) >= MOST_FILES or sum(file.bytes for file in known) + upload.size_bytes > MOST_BYTES:
            raise _no_room(_FULL)
        file = File(
            id=new_id("file-"),
            bytes=upload.size_bytes,
            created_at=int(time.time()),
            filename=name or "file",
            purpose=purpose,
            media_type=media_type,
        )
        described = upload.path.with_suffix(".json.part")
        try:
            described.write_bytes(msgspec.json.encode(file))
            upload.path.replace(self._directory / f"{file.id}.bin")
            described.replace(self._directory / f"{file.id}.json")
        finally:
            described.unlink(missing_ok=True)
        return file


@contextlib.contextmanager
def _told_of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _no_room(f"the disk takes no more: {error.strerror}") from None


def _no_room(reason: str) -> Refusal:
    # Clients try statuses of this kind again unless they are told not to.
    return Refusal(507, reason, code="RESOURCE_EXHAUSTED", headers={"x-should-retry": "false"})
