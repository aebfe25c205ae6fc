"""Serves the web page, and one about the operations. They have no build step, and ask nobody but this gateway."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath

from starlette.routing import BaseRoute

from smol.units.gateway.paths import Path
from smol.units.gateway.requests import Receive, Scope, Send, send_bytes

__all__ = ["CONTENT_SECURITY_POLICY", "routes"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DIRECTORY = FilePath(__file__).parent / "static"
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "permissions-policy": "camera=(self), microphone=()",
}
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
    "/web/icon.svg": ("icon.svg", "image/svg+xml"),
    "/web/style.css": ("style.css", "text/css; charset=utf-8"),
    "/web/common.js": ("common.js", "text/javascript; charset=utf-8"),
    "/web/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/web/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/web/playground.js": ("playground.js", "text/javascript; charset=utf-8"),
    "/web/programs.js": ("programs.js", "text/javascript; charset=utf-8"),
}


def routes() -> list[BaseRoute]:
    """The page and its files, read once."""
    return [
        Path(path, _File((_DIRECTORY / name).read_bytes(), kind, _HEADERS), methods=["GET"])
        for path, (name, kind) in _FILES.items()
    ]


class _File:
    def __init__(self, data: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self._data = data
        self._kind = kind
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 200, self._data, self._kind, self._headers)
