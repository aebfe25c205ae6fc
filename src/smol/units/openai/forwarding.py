"""Requests that a provider's model answers: handed on as they are, or with our operations as its tools."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from smol.errors import SmolError
from smol.types import Json
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.offers import offers
from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Receive, Send, Visit, send_bytes, while_connected
from smol.units.gateway.settings import AgentSettings
from smol.units.gateway.streams import Peeked, send_stream
from smol.units.openai.agent.chat import Chat
from smol.units.openai.agent.dialect import Dialect, asks_for_tools
from smol.units.openai.agent.loop import Agent
from smol.units.openai.agent.messages import Messages
from smol.units.openai.agent.responses import Responses
from smol.units.openai.agent.sequels import Sequels
from smol.units.openai.reading import decode_request
from smol.units.openai.sending import failure, send_events, send_json
from smol.units.openai.upstreams import Provider, Reply

__all__ = ["Forwarded", "Forwarding"]

_Ask = Callable[[bytes], contextlib.AbstractAsyncContextManager[Reply]]
_WITH_TOOLS = (Chat.place, Responses.place, Messages.place)


class Forwarded(msgspec.Struct):
    """What of a request says who answers it, and how."""

    model: str
    stream: bool | None = False
    tools: Json = None
    previous_response_id: Json = None


class Forwarding:
    """Answers with what providers answer."""

    def __init__(self, host: HostAccess, settings: AgentSettings) -> None:
        self._host = host
        self._settings = settings
        self._sequels = Sequels()

    async def serve(
        self,
        provider: Provider,
        place: str,
        asked: Forwarded,
        body: bytes,
        visit: Visit,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer by a provider. place: the path there, below its address."""
        ask = partial(provider.ask, place, beta=visit.headers.get(b"anthropic-beta", b"").decode("latin-1"))
        wanted = asks_for_tools(asked.tools)
        if wanted and place not in _WITH_TOOLS:
            places = ", ".join(f"/v1/{each}" for each in _WITH_TOOLS)
            raise Refusal(400, f"a provider's model gets Smol's operations as tools at {places}", param="tools")
        if place == Responses.place and asked.previous_response_id:
            request = decode_request(body, dict[str, Any])
            resumed = self._sequels.resumed(visit.owner, request)
            body = body if resumed is request else msgspec.json.encode(resumed)
        if wanted or (self._settings.always and place in _WITH_TOOLS):
            agent = await self._agent(place, body, visit)
            await _serve_agent(ask, agent, bool(asked.stream), visit, receive, send)
        else:
            await _forward(ask, body, bool(asked.stream), visit, receive, send, as_chat=place == Chat.place)

    async def _agent(self, place: str, body: bytes, visit: Visit) -> Agent:
        """A request in which the model may call our operations, as far as whoever asks may."""
        offered = offers(await self._host.describe_all(), self._settings, visit.covered)

        async def operate(operation: str, arguments: Mapping[str, Any], seconds: float) -> Json:
            return await self._host.call(operation, arguments, deadline_seconds=seconds, trace=visit.trace)

        request = decode_request(body, dict[str, Any])
        dialect: Dialect
        if place == Responses.place:
            dialect = Responses(request, partial(self._sequels.keep, visit.owner))
        else:
            dialect = Messages(request) if place == Messages.place else Chat(request)
        return Agent(dialect, offered, operate, self._settings)


async def _forward(
    ask: _Ask, body: bytes, stream: bool, visit: Visit, receive: Receive, send: Send, *, as_chat: bool
) -> None:
    """Answer with what a provider answers, as it comes."""
    if not stream:
        media_type, data = await while_connected(_whole(ask, body), receive)
        await send_bytes(send, 200, data, media_type)
        return

    async def chunks() -> AsyncGenerator[bytes]:
        async with ask(body) as reply:
            async for chunk in reply.chunks():
                yield chunk

    peeked = Peeked(chunks())
    await while_connected(peeked.peek(), receive)

    async def flowing() -> AsyncGenerator[bytes]:
        try:
            async for chunk in peeked.follow(beat_seconds=86_400.0):
                if chunk is not None:
                    yield chunk
        except SmolError as error:
            yield failure(error, visit, not as_chat)

    await send_stream(send, receive, flowing(), "text/event-stream")


async def _serve_agent(ask: _Ask, agent: Agent, stream: bool, visit: Visit, receive: Receive, send: Send) -> None:
    """Answer with what a provider's model says once it has called what it wanted to."""
    dialect = agent.dialect

    async def whole(body: bytes) -> bytes:
        return (await _whole(ask, body))[1]

    if stream:
        events = agent.stream(partial(_events, ask))
        await send_events(visit, events, receive, send, named=dialect.named, done=dialect.done)
    else:
        await send_json(send, await while_connected(agent.complete(whole), receive))


async def _whole(ask: _Ask, body: bytes) -> tuple[str, bytes]:
    async with ask(body) as reply:
        return reply.media_type, await reply.whole()


async def _events(ask: _Ask, body: bytes) -> AsyncGenerator[dict[str, Json]]:
    async with ask(body) as reply, contextlib.aclosing(reply.events()) as events:
        async for event in events:
            yield event
