"""Warming up a zygote: what every worker does at its start is done once before any is forked.

Code that has run is specialised and cached in place; a worker that ran it first would write to, and so
copy, the pages that hold it. A worker in this very process, for a few calls, touches most of them.
"""

from __future__ import annotations

import asyncio
import socket

from smol.protocol import PROTOCOL_VERSION, Buffer, Role
from smol.protocol.messages import Hello, Message, Welcome
from smol.sdk import Attachment, Context, Unit, operation
from smol.sdk.worker import UnitSpec, WorkerSpec, configure_logging, new_event_loop, serve_worker
from smol.transport import Caller, Channel, from_socket

__all__ = ["Sample", "warm_up"]


class Sample(Unit):
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
    """Serve a few calls, as a worker would. Leaves nothing behind."""
    configure_logging("text", "warning", "zygote")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve_sample())


async def _serve_sample() -> None:
    unit = UnitSpec(name="sample", class_path=f"{Sample.__module__}:{Sample.__name__}")
    ours, theirs = socket.socketpair()
    host = _Host()
    channel = await from_socket(ours, Role.HOST, host)
    host.caller = Caller(channel)
    serving = asyncio.get_running_loop().create_task(serve_worker(WorkerSpec(name="sample", units=[unit]), theirs))
    await host.greeted.wait()
    for _ in range(20):
        await host.caller.call("sample.plain", {"text": "x"}, deadline_seconds=5)
        await host.caller.call("sample.picture", {"image": Attachment(b"x")}, deadline_seconds=5)
    channel.close()
    await serving
