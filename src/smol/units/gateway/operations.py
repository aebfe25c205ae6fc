"""Every operation of every unit over HTTP: `POST /v1/units/{unit}/{operation}`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from smol.errors import Internal, InvalidArgument, PermissionDenied, SmolError
from smol.protocol import decode_payload
from smol.sdk.uses import used_by
from smol.transport.inbox import Reply
from smol.types import Attachment
from smol.units.gateway.arguments import data_uri, read_arguments
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.keys import Key
from smol.units.gateway.metrics import Metrics
from smol.units.gateway.problems import Style, document
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit, send_bytes, while_connected
from smol.units.gateway.streams import Format, Peeked, as_event, as_line, send_stream, stream_format

__all__ = ["HERE_ONLY", "PROGRAMS", "Events", "Operations", "check_here_only", "limit_program"]

HERE_ONLY = frozenset({"lifecycle.add"})
"""Operations that name files of this machine: they stay with the command line."""
PROGRAMS = frozenset({"executor.run", "executor.submit", "executor.check"})
"""Operations that call others, which must be no more than whoever asks may call."""


class _Asked(msgspec.Struct, frozen=True):
    """A call as it was read from a request."""

    visit: Any
    operation: str
    arguments: dict[str, Any]
    deadline_seconds: float | None


class Operations:
    """The ASGI application for one operation."""

    def __init__(self, host: HostAccess, bodies: Bodies, metrics: Metrics) -> None:
        self._host = host
        self._bodies = bodies
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        unit, name = scope["path_params"]["unit"], scope["path_params"]["operation"]
        full = f"{unit}.{name}"
        visit.check_allowed(full)
        check_here_only(full)
        operation = await self._host.operation(unit, name)
        deadline_seconds = visit.deadline_seconds()
        arguments = await read_arguments(visit, receive, self._bodies, operation)
        if full in PROGRAMS:
            known = [
                f"{found.name}.{each.name}"
                for found in await self._host.describe_all()
                for each in found.operations
            ]
            arguments = limit_program(visit.key, arguments, known)
        for used in used_by(operation, arguments):
            visit.check_allowed(used)
        asked = _Asked(visit, full, arguments, deadline_seconds)
        started = time.perf_counter()
        failure: SmolError | None = None
        try:
            if operation.streaming:
                await self._stream(asked, receive, send)
            else:
                await self._answer(asked, receive, send)
        except SmolError as error:
            failure = error
            raise
        finally:
            self._metrics.called(full, time.perf_counter() - started, failure)
            failure = (
                None  # Else it would keep this frame, which it knows, and all that was sent, until a collection.
            )

    async def _answer(self, asked: _Asked, receive: Receive, send: Send) -> None:
        visit = asked.visit
        key = visit.headers.get(b"idempotency-key", b"").decode("latin-1")
        if len(key) > 200:
            raise InvalidArgument("the idempotency-key has more than 200 characters")
        call = self._host.reply(
            asked.operation, asked.arguments, deadline_seconds=asked.deadline_seconds, trace=visit.trace, key=key
        )
        reply = await while_connected(call, receive)
        if not reply.attachments:
            await send_bytes(send, 200, bytes(reply.value), "application/json")
            return
        value = decode_payload(reply.value, reply.attachments)
        if isinstance(value, Attachment):
            # Bytes that somebody stored, perhaps a page: never to be run here.
            headers = {"content-security-policy": "sandbox", "content-disposition": "attachment"}
            await send_bytes(send, 200, bytes(value.data), _safe_type(value.media_type), headers)
            return
        await send_bytes(send, 200, _with_data_uris(value), "application/json")

    async def _stream(self, asked: _Asked, receive: Receive, send: Send) -> None:
        visit = asked.visit
        items = self._host.replies(
            asked.operation, asked.arguments, deadline_seconds=asked.deadline_seconds, trace=visit.trace
        )
        peeked = Peeked(items)
        await while_connected(peeked.peek(), receive)
        form = stream_format(visit.headers.get(b"accept", b""))
        await send_stream(send, receive, _chunks(peeked, form, visit.request_id), form)


class Events:
    """The ASGI application for events of a topic: `GET /v1/units/{unit}/events/{topic}`."""

    def __init__(self, host: HostAccess) -> None:
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["smol"]
        topic = f"{scope['path_params']['unit']}.{scope['path_params']['topic']}"
        visit.check_allowed(topic)

        async def replies() -> AsyncGenerator[Reply]:
            async with contextlib.aclosing(self._host.events(topic)) as events:
                async for event in events:
                    yield Reply(msgspec.Raw(msgspec.json.encode(event)), [])

        peeked = Peeked(replies())
        await while_connected(peeked.peek(), receive)
        form = stream_format(visit.headers.get(b"accept", b""))
        await send_stream(send, receive, _chunks(peeked, form, visit.request_id), form)


def check_here_only(operation: str) -> None:
    """Raises PermissionDenied for an operation that only the command line has."""
    if operation in HERE_ONLY:
        raise PermissionDenied(f"{operation} reads files of this machine: use the command 'smol unit add' on it")


def limit_program(key: Key | None, arguments: Mapping[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    """The arguments of a program's run, which may call no more than whoever started it over HTTP.

    operations: all there are. Raises PermissionDenied when it asks for more.
    """
    covered = key.allow if key is not None else ("*",)
    wanted = arguments.get("allowed")
    if wanted is not None and not (isinstance(wanted, list) and all(isinstance(each, str) for each in wanted)):
        return dict(arguments)  # The unit refuses it, and says why.
    patterns = covered if wanted is None else wanted
    for pattern in patterns:
        plain = not any(sign in pattern for sign in "*?[")
        if not ("*" in covered or pattern in covered or (plain and key is not None and key.allows(pattern))):
            raise PermissionDenied(
                f"a program of this key can't be allowed {pattern!r}: the key allows {', '.join(covered)}"
            )
    if any(fnmatchcase(name, pattern) for name in HERE_ONLY for pattern in patterns):
        patterns = sorted(
            name for name in operations
            if name not in HERE_ONLY and any(fnmatchcase(name, pattern) for pattern in patterns)
        )  # fmt: skip
    return {**arguments, "allowed": list(patterns)}


async def _chunks(items: Peeked[Reply], form: Format, request_id: str) -> AsyncGenerator[bytes]:
    """Items, then the end; a failure in mid-stream is the last item."""
    events = form == "text/event-stream"
    try:
        async for reply in items.follow():
            if reply is None:
                yield b": still here\n\n" if events else b"\n"
                continue
            data = bytes(reply.value)
            if reply.attachments:
                data = _with_data_uris(decode_payload(reply.value, reply.attachments))
            yield as_event(data) if events else as_line(data)
    except SmolError as error:
        problem = msgspec.json.encode(document(error, Style.PROBLEM, request_id), enc_hook=str)
        yield as_event(problem, "error") if events else as_line(b'{"error":' + problem + b"}")
        return
    if events:
        yield as_event(b"{}", "end")


def _with_data_uris(value: Any) -> bytes:
    def write(item: Any) -> Any:
        if isinstance(item, Attachment):
            return data_uri(item)
        raise Internal(f"a result with a {type(item).__name__}")

    return msgspec.json.encode(value, enc_hook=write)


def _safe_type(media_type: str) -> str:
    return media_type if media_type.isascii() and media_type.isprintable() else "application/octet-stream"
