"""The unit `folder`: one folder of pictures, named in the settings; callers can't look anywhere else.

It looks at the folder every `poll_seconds`. A file counts once it has not changed from one look to the next, so
that a picture that is still being copied is left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from smol.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from smol.sdk import Attachment, Context, Unit, operation

TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
LARGEST_BYTES = 32 << 20


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """The table [units.folder] of smol.toml."""

    path: str
    poll_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 1.0


class Picture(msgspec.Struct, frozen=True):
    """A picture in the folder. id: the same for the same content. day: when it was changed last, as 2026-01-31."""

    name: str
    id: str
    day: str
    bytes: int


class Folder(Unit):
    """The pictures in one folder, as they come; and notes beside them."""

    def __init__(self) -> None:
        self._path = Path()
        self._poll_seconds = 1.0

    async def provision(self, context: Context) -> None:
        try:
            settings = msgspec.convert(dict(context.settings), Settings)
        except msgspec.ValidationError as error:
            raise FailedPrecondition(f'[units.folder] in smol.toml: {error}; it wants path = "..."') from None
        self._path = Path(settings.path).expanduser()
        self._poll_seconds = settings.poll_seconds
        if not self._path.is_dir():
            raise FailedPrecondition(f"[units.folder] path: {self._path} is not a directory; make it")

    @operation(read_only=True)
    async def pictures(self, context: Context, day: str = "", follow: bool = True) -> AsyncIterator[Picture]:
        """Show the pictures in the folder, then each that comes.

        Each new one is also published as the event `folder.picture`.

        day: only those of this day, as 2026-01-31.
        follow: go on with each that comes; else end with those that are there.
        """
        told: dict[str, tuple[int, int]] = {}
        before = await asyncio.to_thread(self._look)
        first = True
        while True:
            await asyncio.sleep(self._poll_seconds)
            now = await asyncio.to_thread(self._look)
            for name in sorted(now):
                if now[name] != before.get(name) or told.get(name) == now[name]:
                    continue
                told[name] = now[name]
                picture = await asyncio.to_thread(self._describe, name)
                if picture is None or day not in ("", picture.day):
                    continue
                if not first:
                    context.publish("picture", msgspec.to_builtins(picture))
                yield picture
            if not follow and now == before:
                return
            before, first = now, False

    @operation(read_only=True)
    def read(self, name: str) -> Attachment:
        """Read a picture.

        name: of a file in the folder, without directories.
        """
        path = self._inside(name)
        if path.suffix.lower() not in TYPES:
            raise InvalidArgument(f"{name!r} is not a picture: its name ends in none of {', '.join(TYPES)}")
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise NotFound(f"{name!r} can't be read: {error.strerror}") from None
        if len(data) > LARGEST_BYTES:
            raise ResourceExhausted(f"{name!r} is larger than {LARGEST_BYTES} bytes")
        return Attachment(data, TYPES[path.suffix.lower()], name)

    @operation(idempotent=True)
    def note(self, name: str, text: str) -> str:
        """Write a note beside the pictures, in place of one of the same name.

        name: ends in .md or .txt. text: of the note.
        """
        path = self._inside(name)
        if path.suffix not in (".md", ".txt"):
            raise InvalidArgument(f"{name!r} does not end in .md or .txt")
        fresh = path.with_name(f".{name}.new")
        fresh.write_text(text)
        fresh.replace(path)
        return str(path)

    def _inside(self, name: str) -> Path:
        if name != os.path.basename(name) or name.startswith(".") or "\0" in name:
            raise InvalidArgument(f"{name!r} is not the name of a file in the folder")
        path = self._path / name
        if path.is_symlink():
            raise InvalidArgument(f"{name!r} is a link, which could lead out of the folder")
        return path

    def _look(self) -> dict[str, tuple[int, int]]:
        """The pictures by name, with what changes when they do."""
        found = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if Path(entry.name).suffix.lower() in TYPES and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = (status.st_mtime_ns, status.st_size)
        return found

    def _describe(self, name: str) -> Picture | None:
        path = self._path / name
        try:
            status = path.stat()
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # It went away.
            return None
        day = datetime.fromtimestamp(status.st_mtime).strftime("%Y-%m-%d")
        return Picture(name=name, id=digest[:16], day=day, bytes=status.st_size)
