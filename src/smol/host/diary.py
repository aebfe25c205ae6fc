"""The host's own recent events, for whoever asks later or wants to follow them from the beginning."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from smol.types import Json

__all__ = ["Diary", "HostEvent"]

_KEPT = 500


class HostEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. sequence: counts up from 1 in this host; a gap means that events were dropped."""

    sequence: int
    time: float
    topic: str
    data: Json


class Diary:
    """The last events, in order."""

    def __init__(self) -> None:
        self._events: deque[HostEvent] = deque(maxlen=_KEPT)
        self._sequence = 0
        self._arrived = asyncio.Event()

    def heard(self, topic: str, data: Json) -> None:
        """An event of the host."""
        self._sequence += 1
        self._events.append(HostEvent(sequence=self._sequence, time=time.time(), topic=topic, data=data))
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()

    async def read(self, since: int, *, follow: bool) -> AsyncIterator[HostEvent]:
        """Events after the one numbered `since`; then, to follow, each that comes."""
        while True:
            arrived = self._arrived
            for event in [event for event in self._events if event.sequence > since]:
                since = event.sequence
                yield event
            if not follow:
                return
            if arrived is self._arrived:
                await arrived.wait()
