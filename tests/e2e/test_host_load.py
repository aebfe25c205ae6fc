"""Many callers, and workers that are killed all the while: no hang, no wrong answer, nothing left over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.client import Client
from smol.errors import DeadlineExceeded, ResourceExhausted, SmolError, Unavailable
from smol.types import Attachment

pytestmark = pytest.mark.e2e

CALLS = 10_000
CLIENTS = 32
_KILL_SECONDS = 0.15
"""The calls take a second or two: killed once a second, the worker would hardly be disturbed."""
_TO_BE_EXPECTED = (Unavailable, ResourceExhausted, DeadlineExceeded)


async def test_ten_thousand_calls_of_many_clients_survive_killed_workers(
    start: Any, gone: Callable[[int], bool]
) -> None:
    outcomes: Counter[str] = Counter()
    async with start() as admin:
        status: Any = await admin.call("lifecycle.status")
        await admin.call("probe.echo", {"text": "warm"})
        descriptors = _descriptors(status["pid"])
        killed: list[int] = []
        killing = asyncio.ensure_future(_kill_often(admin, killed))
        async with asyncio.timeout(45):
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(smol.connect(status["socket"])) for _ in range(CLIENTS)]
                await asyncio.gather(
                    *(_call_often(client, number, outcomes) for number, client in enumerate(clients))
                )
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
        assert outcomes.total() == CALLS // CLIENTS * CLIENTS
        assert outcomes["right"] > 0.5 * CALLS, outcomes
        assert outcomes["wrong"] == 0, outcomes
        assert len(killed) > 2
        await _calls_are_over(admin)
        assert await admin.call("probe.echo", {"text": "well"}) == "well"
        assert _children(status["pid"]) == 2  # The zygote and the worker.
        deadline = time.monotonic() + 3
        while not (_descriptors(status["pid"]) <= descriptors and all(map(gone, killed))):
            assert time.monotonic() < deadline, (_descriptors(status["pid"]), descriptors)
            await asyncio.sleep(0.05)


async def _call_often(client: Client, number: int, outcomes: Counter[str]) -> None:
    dice = random.Random(number)
    for turn in range(CALLS // CLIENTS):
        kind = dice.randrange(10)
        while (outcome := await _try_one(client, kind, f"{number}/{turn}")) == "RESOURCE_EXHAUSTED":
            await asyncio.sleep(0.02)  # As a caller does that is told to come back.
        outcomes[outcome] += 1


async def _try_one(client: Client, kind: int, text: str) -> str:
    try:
        return "right" if await _call_one(client, kind, text) else "wrong"
    except _TO_BE_EXPECTED as error:
        return error.code


async def _call_one(client: Client, kind: int, text: str) -> bool:
    """Returns whether the answer was the right one."""
    if kind < 6:
        return bool(await client.call("probe.echo", {"text": text}) == text)
    if kind == 6:
        answer: Any = await client.call("probe.reverse", {"data": Attachment(text.encode() * 1000)})
        return bytes(answer.data) == (text.encode() * 1000)[::-1]
    if kind == 7:
        return [item async for item in client.stream("probe.count", {"items": 5})] == [0, 1, 2, 3, 4]
    if kind == 8:
        return bool(await client.call("probe.sleep", {"seconds": 0.001}) == "slept")
    try:
        await client.call("probe.fail")
    except SmolError as error:
        if isinstance(error, _TO_BE_EXPECTED):
            raise
        return error.code == "FAILED_PRECONDITION"
    return False


async def _kill_often(admin: Client, killed: list[int]) -> None:
    while True:
        processes: Any = await admin.call("lifecycle.processes")
        for process in processes:
            if process["name"] == "probe" and process.get("pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["pid"], signal.SIGKILL)
                    killed.append(process["pid"])
        await asyncio.sleep(_KILL_SECONDS)


async def _calls_are_over(admin: Client) -> None:
    deadline = time.monotonic() + 5
    while True:
        processes: Any = await admin.call("lifecycle.processes")
        probe = next(process for process in processes if process["name"] == "probe")
        if not probe.get("calls") and not probe.get("waiting"):
            return
        assert time.monotonic() < deadline, probe
        await asyncio.sleep(0.02)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


async def test_a_unit_is_reloaded_under_load_without_a_failed_call(start: Any) -> None:
    async with start() as client:

        async def call_on() -> int:
            for number in range(50):
                assert await client.call("probe.echo", {"text": str(number)}) == str(number)
            return 50

        calling = [asyncio.ensure_future(call_on()) for _ in range(4)]
        reloads = 0
        while not all(call.done() for call in calling):
            await client.call("lifecycle.reload", {"unit": "probe"})
            reloads += 1
        assert await asyncio.gather(*calling) == [50] * 4
        assert reloads
        processes: Any = await client.call("lifecycle.processes")
        assert next(process for process in processes if process["name"] == "probe")["crashes"] == 0


async def test_subscribers_that_lag_lose_events_and_are_told_how_many(start: Any, raw_wire: Any) -> None:
    async with start() as client:
        path = (await client.call("lifecycle.status"))["socket"]
        with raw_wire(path) as wire:
            wire.greet()
            wire.socket.sendall(wire.frame({"type": "subscribe", "id": 1, "topic": "probe.news.*"}))
            assert wire.receive()["type"] == "result"
            await client.call("probe.announce", {"topic": "news.today", "count": 20_000})
            await client.call("probe.announce", {"topic": "news.end", "count": 1})
            seen = lost = 0
            event: dict[str, Any] = {}
            while event.get("topic") != "probe.news.end":
                event = await asyncio.to_thread(wire.receive)
                seen += 1
                lost += event.get("dropped", 0)
        assert seen + lost == 20_001
        assert lost > 0
