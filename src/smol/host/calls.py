"""What the bus keeps of units and of calls on their way."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from smol.policy.routing import Load
from smol.protocol import Buffer
from smol.protocol.messages import Call

if TYPE_CHECKING:
    from smol.host.connection import Connection
    from smol.host.manifest import Manifest
    from smol.host.worker import HostedWorker

__all__ = ["BusLimits", "PendingCall", "Service"]


class BusLimits(msgspec.Struct, frozen=True, kw_only=True):
    """connections: clients at once. calls: at once for one connection. cancel_grace_seconds: how long a worker
    may go on with a call that nobody waits for before it counts as stuck. held_bytes: attachments of all calls
    on their way. unread_bytes: what may wait for a caller that does not read.
    """

    connections: int = 256
    calls: int = 256
    default_deadline_seconds: float = 60.0
    max_deadline_seconds: float = 86400.0
    cancel_grace_seconds: float = 5.0
    held_bytes: int = 256 << 20
    unread_bytes: int = 96 << 20


class Service:
    """One unit as the bus sees it: where its calls go, and those that wait."""

    __slots__ = ("load", "manifest", "waiting", "worker")

    def __init__(self, manifest: Manifest, worker: HostedWorker) -> None:
        self.manifest = manifest
        self.worker = worker
        self.load = Load(manifest.concurrency, manifest.queue)
        self.waiting: deque[PendingCall] = deque()

    def follow(self, manifest: Manifest) -> None:
        """The unit has a new manifest; its calls go on."""
        self.manifest = manifest
        self.load.concurrency = manifest.concurrency
        self.load.queue = manifest.queue


class PendingCall:
    """A call between its arrival and its last answer.

    settled: the caller has had its last answer, though the worker may still be at it.
    streamed: the caller has had items, so that it can't be run again.
    ticket: under which the keeper counts it as in flight. room: the same for its body. placing: waits for that.
    small: its body needs no room of its own. loading: ticket of the room for what it is about to load.
    lent_bytes: what its worker may use more while it is there.
    """

    __slots__ = ("attempts", "body", "call", "caller", "deadline", "forwarded_at", "lent_bytes", "loading",
                 "placing", "room", "service", "settled", "small", "streamed", "ticket",
                 "timer", "worker", "worker_id")  # fmt: skip

    def __init__(self, caller: Connection, call: Call, body: Buffer, service: Service, deadline: float) -> None:
        self.caller = caller
        self.call = call
        self.body = body
        self.service = service
        self.deadline = deadline
        self.attempts = 0
        self.settled = False
        self.streamed = False
        self.timer: asyncio.TimerHandle | None = None
        self.forwarded_at = 0.0
        self.worker: Connection | None = None
        self.worker_id = 0
        self.ticket = ""
        self.room = ""
        self.small = False
        self.loading = ""
        self.lent_bytes = 0
        self.placing: asyncio.Task[None] | None = None

    @property
    def keep_alive_seconds(self) -> float | None:
        """How long the unit stays loaded afterwards; None for what is configured."""
        keep_ms = self.call.keep_alive_ms
        if keep_ms is None:
            return None
        return keep_ms / 1000 if keep_ms >= 0 else math.inf

    @property
    def operation(self) -> str:
        """As the worker knows it: a fallback stands in for another unit under its own name."""
        name = self.service.manifest.name
        operation = self.call.operation
        return operation if operation.startswith(f"{name}.") else f"{name}.{operation.partition('.')[2]}"
