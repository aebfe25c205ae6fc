"""`/v1/files`: pictures that are sent once and named by their id."""

from __future__ import annotations

import asyncio

from starlette.routing import BaseRoute

from smol.types import Attachment
from smol.units.gateway.arguments import parse_form
from smol.units.gateway.paths import Endpoint, Path
from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit, send_bytes
from smol.units.openai.files import Files
from smol.units.openai.reading import Pictures
from smol.units.openai.sending import send_json

__all__ = ["Uploads"]


class Uploads:
    """Files as OpenAI's clients send and ask for them."""

    def __init__(self, files: Files, bodies: Bodies) -> None:
        self._files = files
        self._bodies = bodies

    def routes(self) -> list[BaseRoute]:
        """Where what is answered."""
        return [
            Path("/v1/files", Endpoint(self._all), methods=["GET", "POST"]),
            Path("/v1/files/{id}", Endpoint(self._one), methods=["GET", "DELETE"]),
            Path("/v1/files/{id}/content", Endpoint(self._content), methods=["GET"]),
        ]

    def pictures(self, visit: Visit) -> Pictures:
        """The files that whoever asks may look at."""

        def read(file_id: str, param: str) -> Attachment:
            visit.check_allowed("openai.files")
            return self._files.read(file_id, param)

        return read

    async def _all(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        visit.check_allowed("openai.files")
        if scope["method"] != "POST":
            data = [file.public() for file in await asyncio.to_thread(self._files.list)]
            await send_json(
                send,
                {
                    "object": "list",
                    "data": data,
                    "has_more": False,
                    "first_id": data[0]["id"] if data else "",
                    "last_id": data[-1]["id"] if data else "",
                },
            )
            return
        if visit.media_type != b"multipart/form-data":
            raise Refusal(415, "send multipart/form-data with a file and its purpose")
        attachment, purpose = _uploaded(visit, await self._bodies.read(visit, receive))
        await send_json(send, (await self._files.add(attachment, purpose)).public())

    async def _one(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        visit.check_allowed("openai.files")
        found = scope["path_params"]["id"]
        if scope["method"] == "DELETE":
            self._files.delete(found)
            await send_json(send, {"id": found, "object": "file", "deleted": True})
            return
        await send_json(send, self._files.get(found).public())

    async def _content(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        visit.check_allowed("openai.files")
        found = await asyncio.to_thread(self._files.read, scope["path_params"]["id"])
        headers = {"content-security-policy": "sandbox", "content-disposition": "attachment"}
        await send_bytes(send, 200, bytes(found.data), "application/octet-stream", headers)


def _uploaded(visit: Visit, body: bytes) -> tuple[Attachment, str]:
    found: Attachment | None = None
    purpose = "user_data"
    for part in parse_form(visit.headers[b"content-type"], body):
        if part.name == "file" and part.file is not None:
            kind = part.headers.get("content-type", b"").decode("latin-1") or "application/octet-stream"
            name = part.file.replace("\\", "/").rpartition("/")[2]
            found = Attachment(bytes(part.data), kind, name or None)
        elif part.name == "purpose":
            purpose = part.data.decode("utf-8", "replace")[:64]
    if found is None:
        raise Refusal(400, "the form has no file named 'file'", param="file")
    return found, purpose
