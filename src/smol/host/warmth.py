"""Warming up a zygote: what every worker does at its start is done once before any is forked.

Code that has run is specialised and cached in place; a worker that ran it first would write to, and so
copy, the pages that hold it. One in-memory worker that serves one call touches most of them.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from smol.protocol import PROTOCOL_VERSION, Buffer
from smol.protocol.messages import Hello, Message, Welcome
from smol.sdk import Attachment, Context, Unit, operation
from smol.sdk.context import Environment
from smol.sdk.serve import Worker
from smol.sdk.worker import new_event_loop
from smol.transport import Caller, Channel, connect_in_memory

__all__ = ["warm_up"]


class _Sample(Unit):
    """A unit like any other."""

    @operation(read_only=True)
    async def plain(self, text: str, number: float = 1.0, names: list[str] | None = None) -> dict[str, str]:
        """Answer at once.

        text: any text.
        """
        return {"text": text}

    @operation(read_only=True)
    async def picture(self, image: Attachment, context: Context) -> Attachment:
        """Answer with what came."""
        return image


class _Host:
    """The least that a worker needs of a host."""

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.greeted = asyncio.Event()

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if isinstance(message, Hello):
            channel.send(Welcome(PROTOCOL_VERSION))
            self.greeted.set()
        elif self.caller is not None:
            self.caller.handle(message, body)

    def on_closed(self, channel: Channel, error: Exception | None) -> None:
        """As expected."""


def warm_up() -> None:
    """Serve a few calls in memory. Leaves nothing behind."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve_sample())


async def _serve_sample() -> None:
    environment = Environment(
        unit="sample", log=logging.getLogger("smol.units.sample"), data_dir=Path("/"), cache_dir=Path("/")
    )
    worker = Worker([("sample", "0", _Sample(), environment)], threads=1)
    host = _Host()
    channel, peer = connect_in_memory(host, worker)
    host.caller = Caller(channel)
    serving = asyncio.get_running_loop().create_task(worker.run(peer))
    await host.greeted.wait()
    for _ in range(20):
        await host.caller.call("sample.plain", {"text": "x"}, deadline_seconds=5)
        await host.caller.call("sample.picture", {"image": Attachment(b"x")}, deadline_seconds=5)
    channel.close()
    await serving
