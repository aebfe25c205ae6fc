"""Files on their way in and out of `/v1/files`: piece by piece, between the client and the disk."""

from __future__ import annotations

import asyncio
import contextlib

from smol.sizes import KIB
from smol.units.gateway.forms import FormReader, Part
from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Bodies, Receive, Send, Visit
from smol.units.openai.files import File, Files, Upload

__all__ = ["read_upload", "send_file"]

_LARGEST_FIELD_BYTES = 4 * KIB
_PIECE_BYTES = 256 * KIB


async def read_upload(visit: Visit, receive: Receive, bodies: Bodies, files: Files) -> File:
    """Keep the file of a form with its purpose. Raises Refusal for what is none, and when there is no room."""
    if visit.media_type != b"multipart/form-data":
        raise Refusal(415, "send multipart/form-data with a file and its purpose")
    reader = FormReader(visit.headers[b"content-type"])
    done = 0
    async with files.upload() as upload, contextlib.aclosing(bodies.pieces(visit, receive)) as pieces:
        async for piece in pieces:
            reader.feed(piece)
            for part in reader.parts[done:]:
                await _take(part, upload)
            done = max(0, len(reader.parts) - 1)
        parts = reader.finish()
        sent = [part for part in parts if _is_the_file(part)]
        if len(sent) != 1:
            raise Refusal(400, f"the form has {len(sent)} files named 'file', and must have one", param="file")
        purpose = next((part for part in parts if part.name == "purpose"), None)
        named = purpose.data.decode("utf-8", "replace")[:64] if purpose is not None else "user_data"
        return await files.keep(upload, sent[0].file or "", sent[0].media_type, named)


async def _take(part: Part, upload: Upload) -> None:
    """What has come of a part goes to the disk, or stays if it is a field."""
    if _is_the_file(part):
        await upload.write(part.data)
        part.data.clear()
    elif len(part.data) > _LARGEST_FIELD_BYTES:
        raise Refusal(400, f"the field {part.name!r} is too long, or is no file named 'file'", param=part.name)


def _is_the_file(part: Part) -> bool:
    return part.name == "file" and part.file is not None


async def send_file(send: Send, files: Files, file_id: str) -> None:
    """Answer with the bytes of a file. Raises Refusal 404."""
    path = files.path(file_id)
    with await asyncio.to_thread(path.open, "rb") as file:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % path.stat().st_size),
            (b"content-security-policy", b"sandbox"),
            (b"content-disposition", b"attachment"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
