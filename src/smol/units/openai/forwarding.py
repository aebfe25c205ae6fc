"""Chats that a provider's model answers: handed on as they are, or with our operations as its tools."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from smol.errors import SmolError
from smol.types import Json
from smol.units.gateway.requests import Receive, Send, Visit, send_bytes, while_connected
from smol.units.gateway.streams import Peeked, send_stream
from smol.units.openai.agent import Agent
from smol.units.openai.sending import failure, send_events, send_json
from smol.units.openai.upstreams import Provider

__all__ = ["CHAT", "forward", "serve_agent"]

CHAT = "chat/completions"


async def forward(
    provider: Provider, path: str, body: bytes, stream: bool, visit: Visit, receive: Receive, send: Send
) -> None:
    """Answer with what a provider answers, as it comes."""
    if not stream:
        media_type, data = await while_connected(_whole(provider, path, body), receive)
        await send_bytes(send, 200, data, media_type)
        return

    async def chunks() -> AsyncGenerator[bytes]:
        async with provider.ask(path, body) as reply:
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
            yield failure(error, visit, path != CHAT)

    await send_stream(send, receive, flowing(), "text/event-stream")


async def _whole(provider: Provider, path: str, body: bytes) -> tuple[str, bytes]:
    async with provider.ask(path, body) as reply:
        return reply.media_type, await reply.whole()


async def serve_agent(
    provider: Provider, agent: Agent, stream: bool, visit: Visit, receive: Receive, send: Send
) -> None:
    """Answer with what a provider's model says once it has called what it wanted to."""
    if stream:
        await send_events(visit, agent.stream(partial(_chunks, provider)), receive, send, named=False)
        return

    async def ask(body: bytes) -> bytes:
        return (await _whole(provider, CHAT, body))[1]

    await send_json(send, await while_connected(agent.complete(ask), receive))


async def _chunks(provider: Provider, body: bytes) -> AsyncGenerator[dict[str, Json]]:
    async with provider.ask(CHAT, body) as reply, contextlib.aclosing(reply.events()) as events:
        async for event in events:
            yield event
