"""How answers of these APIs are sent: whole, or as events with errors as each API has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from smol.errors import SmolError
from smol.types import Json
from smol.units.gateway.problems import Style, document
from smol.units.gateway.requests import Receive, Send, Visit, send_bytes, while_connected
from smol.units.gateway.streams import Peeked, as_event, send_stream

__all__ = ["failure", "send_events", "send_json"]


async def send_json(send: Send, value: Json) -> None:
    await send_bytes(send, 200, msgspec.json.encode(value), "application/json")


async def send_events(
    visit: Visit,
    items: AsyncGenerator[dict[str, Json]],
    receive: Receive,
    send: Send,
    *,
    named: bool,
    done: bytes = b"data: [DONE]\n\n",
) -> None:
    """Send items as events. named: each by its type. done: what ends the stream.

    Raises SmolError while there is no first item: then nothing has been sent.
    """
    peeked = Peeked(items)
    await while_connected(peeked.peek(), receive)

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            async for item in peeked.follow():
                if item is None:
                    yield b": still here\n\n"
                else:
                    yield as_event(msgspec.json.encode(item), item["type"] if named else "")
            yield done
        except SmolError as error:
            yield failure(error, visit, named)

    await send_stream(send, receive, chunks(), "text/event-stream")


def failure(error: SmolError, visit: Visit, named: bool) -> bytes:
    """An error in mid-stream, as each API has it."""
    said = document(error, visit.style, visit.request_id)
    if named and visit.style is Style.OPENAI:
        said = {"type": "error", "sequence_number": 0, **said["error"], "error": said["error"]}
    return as_event(msgspec.json.encode(said, enc_hook=str), "error" if named else "")
