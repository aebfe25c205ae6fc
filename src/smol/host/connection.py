"""A connection that the host has: with a client, or with a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smol.errors import SmolError
from smol.protocol import Buffer
from smol.protocol.messages import Message
from smol.transport import Channel

if TYPE_CHECKING:
    from smol.host.bus import Bus, PendingCall
    from smol.host.worker import HostedWorker

__all__ = ["Connection"]


class Connection:
    """What the host knows of one connection. It is its channel's handler.

    asked: calls it made, by its ids. forwarded: calls it was given, by ours.
    worker: the worker at the other end, None for a client. greeted: whether a client has said hello.
    """

    __slots__ = ("asked", "bus", "channel", "forwarded", "greeted", "name", "worker")

    def __init__(self, bus: Bus, worker: HostedWorker | None = None) -> None:
        self.bus = bus
        self.worker = worker
        self.channel: Channel | None = None
        self.greeted = False
        self.name = worker.name if worker is not None else "client"
        self.asked: dict[int, PendingCall] = {}
        self.forwarded: dict[int, PendingCall] = {}

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        self.channel = channel
        self.bus.receive(self, message, body)

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        self.channel = channel
        self.bus.lose(self, error)

    def send(self, message: Message, body: tuple[Buffer, ...] = ()) -> bool:
        """Send if it can still be of use; False when the connection or the call is gone."""
        return self.channel is not None and self.channel.try_send(message, body)
