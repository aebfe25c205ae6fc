"""The server: the official SDK's, for both of its wires, with our operations behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError

from smol import __version__
from smol.errors import SmolError, nearest
from smol.protocol import decode_payload
from smol.units.gateway.arguments import with_attachments
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.offers import LARGEST_TEXT, Offer, content_of, limit_to, offers
from smol.units.gateway.settings import OfferSettings

__all__ = ["ALLOW_HEADER", "McpServer"]

ALLOW_HEADER = "x-smol-allow"
"""What the key of a client covers, as a JSON list; set by the gateway, on a socket that only it can reach."""
_MODELS = {"smol://models/detect": "detect.models", "smol://models/classify": "classify.models"}
_INSTRUCTIONS = (
    "Small networks and tools on this machine. Pictures are passed as data: URIs. "
    "Results are structured; errors say what was wrong and what to do."
)


class McpServer:
    """Tools and resources of one host."""

    def __init__(self, host: HostAccess, settings: OfferSettings) -> None:
        self._host = host
        self._settings = settings
        self._reporting: set[asyncio.Task[None]] = set()
        self._server: Server[Any] = Server(
            "smol",
            version=__version__,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
        )

    async def serve_stdio(self) -> None:
        """Serve one client on standard input and output, until it hangs up."""
        async with stdio_server() as (incoming, outgoing):
            await self._server.run(incoming, outgoing, self._server.create_initialization_options())

    def http(self) -> StreamableHTTPSessionManager:
        """Streamable HTTP; without sessions, so that the worker may end between two requests."""
        return StreamableHTTPSessionManager(self._server, stateless=True)

    async def _offers(self, context: Any) -> dict[str, Offer]:
        return offers(await self._host.describe_all(), self._settings, _allowed(context))

    async def _list_tools(self, context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(offer) for offer in (await self._offers(context)).values()])

    async def _call_tool(self, context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        known = await self._offers(context)
        offer = known.get(params.name)
        if offer is None:  # An error of the protocol, not of a tool.
            raise MCPError(types.INVALID_PARAMS, f"no tool {params.name!r}{nearest(params.name, known)}")
        try:
            value = await self._call(context, offer, params.arguments or {})
        except SmolError as error:
            code = error.code if error.code != "UNKNOWN" else "INVALID_ARGUMENT"
            said = types.TextContent(type="text", text=f"{code}: {error.message}")
            return types.CallToolResult(content=[said], is_error=True)
        content, structured = content_of(offer, value)
        answer = {"content": content} | ({} if structured is None else {"structuredContent": structured})
        return types.CallToolResult.model_validate(answer)

    async def _call(self, context: Any, offer: Offer, given: dict[str, Any]) -> Any:
        arguments = limit_to(await self._offers(context), offer, with_attachments(given, offer.described))
        loop = asyncio.get_running_loop()

        def report(fraction: float, message: str) -> None:
            task = loop.create_task(context.session.report_progress(max(0.0, fraction), 1.0, message or None))
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)

        reply = await self._host.reply(offer.operation, arguments, on_progress=report)
        return decode_payload(reply.value, reply.attachments)

    async def _list_resources(self, context: Any, params: Any) -> types.ListResourcesResult:
        known = {offer.operation for offer in (await self._offers(context)).values()}
        found = [
            types.Resource(name=uri.rpartition("/")[2] + " models", uri=uri, mime_type="application/json")
            for uri, operation in _MODELS.items()
            if operation in known
        ]
        return types.ListResourcesResult(resources=found)

    async def _list_templates(self, context: Any, params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="stored values", uri_template="smol://storage/{collection}/{key}", mime_type="application/json"
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read_resource(
        self, context: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        collection, _, key = uri.removeprefix("smol://storage/").partition("/")
        operation, arguments = _MODELS.get(uri, ""), {}
        if uri.startswith("smol://storage/") and collection and key:
            operation, arguments = "storage.get", {"collection": collection, "key": key}
        offer = (await self._offers(context)).get(operation.replace(".", "_"))
        if offer is None:
            raise MCPError(types.INVALID_PARAMS, f"no resource {uri!r}", {"uri": uri})
        try:
            content, _ = content_of(offer, await self._host.call(operation, arguments))
        except SmolError as error:
            raise MCPError(types.INVALID_PARAMS, f"{error.code}: {error.message}", {"uri": uri}) from None
        text = content[0]["text"][:LARGEST_TEXT]
        found = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[found])


def _tool(offer: Offer) -> types.Tool:
    described = offer.described
    text = f"{described.summary}\n\n{described.description}".strip()
    return types.Tool(
        name=offer.name,
        title=described.summary,
        description=text,
        input_schema=offer.input_schema,
        output_schema=offer.output_schema,
        annotations=types.ToolAnnotations(
            title=described.summary,
            read_only_hint=described.read_only,
            destructive_hint=described.destructive,
            idempotent_hint=described.idempotent,
            open_world_hint=False,
        ),
    )


def _allowed(context: Any) -> list[str]:
    """What the client's key covers; everything where there is no gateway between."""
    headers = getattr(context.request, "headers", None)
    given = headers.get(ALLOW_HEADER) if headers is not None else None
    return list(json.loads(given)) if given else ["*"]
