"""An ASGI server and a host in this process: what the gateway meets in tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import msgspec
import pytest

from smol.errors import NotFound
from smol.protocol import decode_payload, encode_payload, split_body
from smol.protocol.messages import UnitDescription
from smol.sdk import Unit
from smol.sdk.context import Context, Environment
from smol.sdk.schema import describe, operations_of
from smol.transport.inbox import Reply
from smol.types import Json
from smol.units.gateway.hosts import HostAccess


class Answer:
    """What an application answered."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"] if messages else 0
        pairs = messages[0]["headers"] if messages else []
        self.headers = {name.decode(): value.decode() for name, value in pairs}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def _ask(
    app: Any,
    path: str,
    body: bytes | Iterable[bytes] = b"",
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
    unix: bool = False,
    hang_up: asyncio.Event | None = None,
) -> Answer:
    """One request. body: in one piece, or in several. hang_up: when set, the client goes away."""
    parts = [body] if isinstance(body, bytes) else list(body)
    plain, _, query = path.partition("?")
    fields = {"host": "127.0.0.1:2048", **{name.lower(): value for name, value in (headers or {}).items()}}
    if any(parts) and "content-type" not in fields:
        fields["content-type"] = "application/json"
    scope = {
        "type": "http",
        "method": method or ("POST" if any(parts) else "GET"),
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        "state": {"unix": unix},
    }
    sent: list[dict[str, Any]] = []
    waiting = list(reversed(parts))

    async def receive() -> dict[str, Any]:
        if waiting:
            part = waiting.pop()
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}
        await (hang_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        await asyncio.sleep(0)

    await app(scope, receive, send)
    return Answer(sent)


class FakeHost(HostAccess):
    """A host of units that live in this process. `calls` tells what it was asked."""

    def __init__(self, **units: Unit) -> None:
        self.calls: list[tuple[str, Json]] = []
        self._units = units
        self.on_call: Callable[[str], None] = lambda operation: None

    async def describe(self, unit: str) -> UnitDescription:
        if unit not in self._units:
            raise NotFound(f"no unit {unit!r}")
        found = self._units[unit]
        return describe(found, unit, "0", operations_of(found, unit).values(), schemas=True)

    async def operation(self, unit: str, name: str) -> Any:
        for operation in (await self.describe(unit)).operations:
            if operation.name == name:
                return operation
        raise NotFound(f"unit {unit!r} has no operation {name!r}")

    async def units(self) -> list[dict[str, Any]]:
        return [{"name": name, "kind": "tool", "state": "ready"} for name in self._units]

    async def reply(self, operation: str, arguments: Mapping[str, Any], **options: Any) -> Reply:
        self.calls.append((operation, dict(arguments)))
        self.on_call(operation)
        unit, _, name = operation.partition(".")
        if unit not in self._units:
            raise NotFound(f"no unit {unit!r}")
        found = operations_of(self._units[unit], unit)[name]
        decoded = self._decode(found, arguments, **options)
        value = found.method(**decoded)
        return _reply(await value if asyncio.iscoroutine(value) else value)

    async def call(self, operation: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Json:
        reply = await self.reply(operation, arguments or {}, **options)
        return decode_payload(reply.value, reply.attachments)

    async def replies(self, operation: str, arguments: Mapping[str, Any], **options: Any) -> AsyncGenerator[Reply]:
        self.calls.append((operation, dict(arguments)))
        unit, _, name = operation.partition(".")
        found = operations_of(self._units[unit], unit)[name]
        items = found.method(**self._decode(found, arguments, **options))
        try:
            async for item in items:
                yield _reply(item)
        finally:
            await items.aclose()

    def _decode(self, found: Any, arguments: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        value, headers, body = encode_payload(dict(arguments))
        decoded: dict[str, Any] = found.decode(value, split_body(headers, b"".join(bytes(part) for part in body)))
        if found.context_parameter is not None:
            environment = Environment(unit="fake", log=None, data_dir="", cache_dir="")
            decoded[found.context_parameter] = Context(environment, trace=options.get("trace", ""))
        return decoded


def _reply(value: Any) -> Reply:
    data, headers, body = encode_payload(value)
    return Reply(msgspec.Raw(bytes(data)), split_body(headers, b"".join(bytes(part) for part in body)))


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Send one request to an ASGI application: `await ask(app, path, body, ...)`."""
    return _ask


@pytest.fixture
def fake_host() -> type[FakeHost]:
    """A host of units in this process: `fake_host(math=Math())`."""
    return FakeHost
