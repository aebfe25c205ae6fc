from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from smol.models import Asset

CONTENT = bytes(range(256)) * 4096  # 1 MiB: four chunks.


def asset_of(content: bytes, file: str = "net.onnx", **fields: Any) -> Asset:
    return Asset(file=file, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), **fields)


class Server:
    """A web server on loopback that misbehaves on demand.

    files: what it serves by path. cut: bytes after which it hangs up, one for each request.
    resumes: whether it heeds Range. length_offset: added to the Content-Length it tells.
    status: answered instead of a file. ranges: the Range header of each request.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.resumes = True
        self.length_offset = 0
        self.status = 0
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        wanted = self.headers.get("Range")
        state.ranges.append(wanted)
        content = state.files.get(self.path)
        if state.status or content is None:
            self.send_error(state.status or 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.resumes else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start + state.length_offset))
        self.end_headers()
        end = start + state.cut.pop(0) if state.cut else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    handler = type("BoundHandler", (Handler,), {})
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.state = state = Server(http_server.server_address[1])  # type: ignore[attr-defined]
    state.files["/net.onnx"] = CONTENT
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http_server.shutdown()
    thread.join()
    http_server.server_close()


@pytest.fixture
def content() -> bytes:
    return CONTENT


@pytest.fixture
def asset(content: bytes) -> Asset:
    return asset_of(content)
