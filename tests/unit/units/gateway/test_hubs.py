"""One subscription for many readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from smol.client.session import Event
from smol.errors import ResourceExhausted, Unavailable
from smol.units.gateway.hubs import MOST_TOPICS, Hubs


class Source:
    """Events that a test makes, and how often it was subscribed to."""

    def __init__(self) -> None:
        self.subscribed = 0
        self.ended = 0
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()

    async def __call__(self, topic: str) -> AsyncGenerator[Event]:
        self.subscribed += 1
        try:
            while True:
                event = await self.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.ended += 1


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_readers_of_a_topic_share_one_subscription_until_the_last_has_gone() -> None:
    async def scenario() -> None:
        source = Source()
        hubs = Hubs(source)
        readers = [hubs.read("a.b") for _ in range(3)]
        waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
        await settle()
        source.events.put_nowait(Event("a.b", 1))
        assert [event.data for event in await asyncio.gather(*waiting)] == [1, 1, 1]
        assert source.subscribed == 1
        for reader in readers:
            assert source.ended == 0
            await reader.aclose()
        await settle()
        assert source.ended == 1
        await hubs.close()

    asyncio.run(scenario())


def test_a_reader_that_lags_is_told_how_much_it_missed() -> None:
    async def scenario() -> None:
        source = Source()
        hubs = Hubs(source)
        reader = hubs.read("a.b")
        first = asyncio.ensure_future(anext(reader))
        await settle()
        source.events.put_nowait(Event("a.b", 0))
        await first
        for number in range(1, 301):
            source.events.put_nowait(Event("a.b", number))
        while not source.events.empty():
            await asyncio.sleep(0)
        await settle()
        seen = [await anext(reader) for _ in range(256)]
        assert seen[0].dropped == 44
        assert [event.data for event in seen] == list(range(45, 301))
        assert all(event.dropped == 0 for event in seen[1:])
        await reader.aclose()
        await hubs.close()

    asyncio.run(scenario())


def test_what_ends_the_subscription_ends_its_readers() -> None:
    async def scenario() -> None:
        source = Source()
        hubs = Hubs(source)
        reader = hubs.read("a.b")
        waiting = asyncio.ensure_future(anext(reader))
        await settle()
        source.events.put_nowait(Unavailable("the host hung up"))
        with pytest.raises(Unavailable):
            await waiting
        await hubs.close()

    asyncio.run(scenario())


def test_different_topics_are_bounded() -> None:
    async def scenario() -> None:
        hubs = Hubs(Source())
        readers = [hubs.read(f"a.{number}") for number in range(MOST_TOPICS + 1)]
        waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
        await settle()
        with pytest.raises(ResourceExhausted):
            await waiting.pop()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for reader in readers:
            await reader.aclose()
        await hubs.close()

    asyncio.run(scenario())
