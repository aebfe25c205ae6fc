"""What is where: the paths of the gateway, put together behind its door."""

from __future__ import annotations

import pathlib
from typing import Any

import msgspec
from starlette.routing import BaseRoute, Router

from smol.units.gateway.door import Door
from smol.units.gateway.fetching import Fetcher
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.metrics import CONTENT_TYPE, Metrics
from smol.units.gateway.openapi import document_of
from smol.units.gateway.operations import Events, Operations
from smol.units.gateway.paths import Path
from smol.units.gateway.problems import Refusal
from smol.units.gateway.proxy import McpProxy
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit, send_bytes
from smol.units.gateway.settings import GatewaySettings
from smol.units.openai.files import Files
from smol.units.openai.routes import Faces
from smol.units.openai.upstreams import Upstreams
from smol.units.web.page import routes as web_routes

__all__ = ["Application"]


class Application:
    """All faces behind one door. directory: where they keep files. fetcher: instead of the network, for tests."""

    def __init__(
        self,
        settings: GatewaySettings,
        host: HostAccess,
        keys: KeyFile,
        directory: pathlib.Path,
        fetcher: Fetcher | None = None,
    ) -> None:
        metrics = Metrics()
        bodies = Bodies(settings.max_body_bytes, settings.max_held_bytes, settings.body_seconds)
        upstreams = Upstreams(settings.upstreams, directory / "upstreams")
        fetcher = fetcher or Fetcher(settings.fetch)
        files = Files(directory / "files")
        files.sweep()
        self._faces = Faces(host, bodies, files, upstreams, settings.agent, fetcher)
        self._mcp = McpProxy(host, bodies)
        mcp = Path("/mcp", self._mcp, methods=["GET", "POST", "DELETE"])
        router = Router(
            [*_routes(host, bodies, metrics), *self._faces.routes(), mcp, *web_routes()],
            redirect_slashes=False,
            default=_Nowhere(),
        )
        self._door = Door(
            router, keys=keys, metrics=metrics, bodies=bodies, hosts=settings.hosts, origins=settings.origins
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)

    async def close(self) -> None:
        """Hang up on others."""
        await self._faces.close()
        await self._mcp.close()


def _routes(host: HostAccess, bodies: Bodies, metrics: Metrics) -> list[BaseRoute]:
    return [
        Path("/v1/units/{unit}/{operation}", Operations(host, bodies, metrics), methods=["POST"]),
        Path("/v1/units/{unit}/events/{topic:path}", Events(host), methods=["GET"]),
        Path("/v1/units", _Units(host), methods=["GET"]),
        Path("/v1/units/{unit}", _Description(host), methods=["GET"]),
        Path("/openapi.json", _OpenApi(host), methods=["GET"]),
        Path("/healthz", _healthy, methods=["GET"]),
        Path("/readyz", _Ready(host), methods=["GET"]),
        Path("/metrics", _MetricsPage(host, metrics), methods=["GET"]),
    ]


class _Page:
    """Answers with JSON that `value` gives."""

    def __init__(self, host: HostAccess) -> None:
        self._host = host

    async def value(self, scope: Scope) -> Any:
        """What to say."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 200, msgspec.json.encode(await self.value(scope)), "application/json")


class _Units(_Page):
    async def value(self, scope: Scope) -> Any:
        visit: Visit = scope["smol"]
        visit.check_allowed("lifecycle.units")
        return {"units": await self._host.units()}


class _Description(_Page):
    async def value(self, scope: Scope) -> Any:
        visit: Visit = scope["smol"]
        visit.check_allowed("lifecycle.describe")
        return await self._host.describe(scope["path_params"]["unit"])


class _OpenApi(_Page):
    async def value(self, scope: Scope) -> Any:
        return document_of(await self._host.describe_all())


class _Ready(_Page):
    """Ready means that the host answers."""

    async def value(self, scope: Scope) -> Any:
        status = await self._host.call("lifecycle.status", deadline_seconds=5.0)
        return {"status": "ready", "version": status["version"]}


class _MetricsPage:
    def __init__(self, host: HostAccess, metrics: Metrics) -> None:
        self._host = host
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        visit.check_allowed("lifecycle.processes")
        await send_bytes(send, 200, await self._metrics.render(self._host), CONTENT_TYPE)


class _Healthy:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 200, b'{"status":"ok"}', "application/json")


_healthy = _Healthy()


class _Nowhere:
    """Refuses paths that lead nowhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise Refusal(404, f"nothing is at {scope['path']}; /docs tells what there is", code="NOT_FOUND")
