"""From a unit to the rest of the system, over the channel of its worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from smol.errors import FailedPrecondition, InvalidArgument, SmolError
from smol.protocol import decode_payload, encode_payload
from smol.protocol.messages import Message, Progress, Publish
from smol.sdk.context import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from smol.transport import Caller, Channel
    from smol.types import Json

__all__ = ["HostLink"]

_log = logging.getLogger("smol.worker")


class HostLink(Link):
    """The way to the host. ready: whether the host has said welcome, so that calls can be made."""

    def __init__(self) -> None:
        self.ready = False
        self._channel: Channel | None = None
        self._caller: Caller | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def attach(self, channel: Channel, caller: Caller) -> None:
        """From now on, speak over `channel`."""
        self._channel = channel
        self._caller = caller

    async def call(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str, key: str = ""
    ) -> Json:
        reply = await self._calling().call(
            operation, arguments, deadline_seconds=deadline_seconds, trace=trace, key=key
        )
        return decode_payload(reply.value, reply.attachments)

    async def stream(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str
    ) -> AsyncIterator[Json]:
        async with self._calling().stream(
            operation, arguments, deadline_seconds=deadline_seconds, trace=trace
        ) as items:
            async for item in items:
                yield decode_payload(item.value, item.attachments)

    def wait(self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float) -> Json:
        if threading.get_ident() == self._thread:
            raise FailedPrecondition(f"{operation} would block the worker's event loop: call it in a thread")
        calling = self.call(operation, arguments, deadline_seconds, "")
        return asyncio.run_coroutine_threadsafe(calling, self._loop).result()

    def progress(self, call_id: int, fraction: float, message: str) -> None:
        self._post(Progress(call_id, fraction, message))

    def publish(self, topic: str, data: Json) -> None:
        value, headers, _ = encode_payload(data)
        if headers:
            raise InvalidArgument(f"an event of {topic!r} with attachments: events carry JSON only")
        self._post(Publish(topic, value))

    def _calling(self) -> Caller:
        if self._caller is None or not self.ready:
            raise FailedPrecondition("units can be called once the worker serves, not while it gets ready")
        return self._caller

    def _post(self, message: Message) -> None:
        """Send from any thread, in order with the answer of the call that says it."""
        if threading.get_ident() == self._thread:
            self._send_quietly(message)
        else:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and with it whoever wanted to know.
                self._loop.call_soon_threadsafe(self._send_quietly, message)

    def _send_quietly(self, message: Message) -> None:
        if self._channel is None or (isinstance(message, Progress) and not self._channel.writable):
            return
        try:
            self._channel.try_send(message)
        except SmolError as error:
            _log.warning("%s was not sent: %s", type(message).__name__, error)
