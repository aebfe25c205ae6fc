"""Uploaded files: `/v1/files`, and what a message refers to by `file_id`."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import msgspec

from smol.errors import ResourceExhausted
from smol.locations import own_directory
from smol.sizes import MIB, format_bytes
from smol.types import Attachment
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import new_id

__all__ = ["File", "Files"]

MOST_FILES = 1000
MOST_BYTES = 256 * MIB
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


class Files:
    """Files in one directory, as many and as large as it takes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()

    async def add(self, attachment: Attachment, purpose: str) -> File:
        """Keep a file. Raises ResourceExhausted when there is no room."""
        async with self._lock:
            return await asyncio.to_thread(self._add, attachment, purpose)

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
        return Attachment(self._path(file_id, ".bin", param).read_bytes(), file.media_type, file.filename)

    def delete(self, file_id: str) -> None:
        """Raises Refusal 404."""
        self._path(file_id, ".json", "file_id").unlink()
        self._path(file_id, ".bin", "file_id").unlink()

    def _path(self, file_id: str, ending: str, param: str) -> Path:
        path = self._directory / f"{file_id}{ending}"
        if not _ID.match(file_id) or not path.is_file():
            raise Refusal(404, f"no file {file_id!r}", code="NOT_FOUND", param=param)
        return path

    def _add(self, attachment: Attachment, purpose: str) -> File:
        own_directory(self._directory)
        known = self.list()
        if len(known) >= MOST_FILES or sum(file.bytes for file in known) + len(attachment) > MOST_BYTES:
            raise ResourceExhausted(
                f"there is room for {MOST_FILES} files and {format_bytes(MOST_BYTES)}: delete some with /v1/files"
            )
        file = File(
            id=new_id("file-"),
            bytes=len(attachment),
            created_at=int(time.time()),
            filename=attachment.name or "file",
            purpose=purpose,
            media_type=attachment.media_type,
        )
        (self._directory / f"{file.id}.bin").write_bytes(attachment.data)
        (self._directory / f"{file.id}.json").write_bytes(msgspec.json.encode(file))
        return file
