"""`/v1/files`: pictures that are sent once and named by their id."""

from __future__ import annotations

import asyncio

from starlette.routing import BaseRoute

from smol.types import Attachment
from smol.units.gateway.paths import Endpoint, Path
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit
from smol.units.openai.files import Files
from smol.units.openai.reading import Pictures
from smol.units.openai.sending import send_json
from smol.units.openai.transfers import read_upload, send_file

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
        kept = await read_upload(visit, receive, self._bodies, self._files)
        await send_json(send, kept.public())

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
        await send_file(send, self._files, scope["path_params"]["id"])
