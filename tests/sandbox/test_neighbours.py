"""Runs beside each other: what one takes is never charged to another, and one that overruns ends alone."""

from __future__ import annotations

import asyncio

import pytest

from smol.sandbox.box import Box
from smol.sandbox.kinds import python_kind
from smol.sandbox.records import LAYERS, Job, Limits, Outcome
from smol.sizes import MIB
from tests.sandbox.harness import Bench, require

AT_ONCE = 32
LIMITS = Limits(timeout_ms=60_000, memory_bytes=128 * MIB)
UP_TO_THE_LIMIT = "import time; data = bytearray(100 << 20); time.sleep(0.5); len(data)"
BEYOND_IT = "data = []\nwhile True: data.append(bytearray(16 << 20))"
QUIET = "import time\nfor _ in range(20): time.sleep(0.05); sum(range(10_000))\n'done'"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def run(bench: Bench, layers: tuple[str, ...], source: str) -> Outcome:
    async with await Box.made(bench.keeper, python_kind(bench.keeper), layers, LIMITS, bench.parent) as box:
        return await box.run(Job(source=source), LIMITS)


def test_many_at_once_each_use_what_they_may() -> None:
    layers = require(LAYERS)

    async def scenario() -> list[Outcome]:
        async with Bench(layers) as bench:
            outcomes = await asyncio.gather(*(run(bench, layers, UP_TO_THE_LIMIT) for _ in range(AT_ONCE)))
            assert bench.leftovers() == []
            return outcomes

    outcomes = asyncio.run(scenario())
    assert [(each.verdict, each.value) for each in outcomes] == [("ok", 100 << 20)] * AT_ONCE
    assert all((each.peak_memory_bytes or 0) > 100 << 20 for each in outcomes)


def test_a_memory_bomb_ends_alone() -> None:
    layers = require(LAYERS)

    async def scenario() -> list[Outcome]:
        async with Bench(layers) as bench:
            quiet = [asyncio.ensure_future(run(bench, layers, QUIET)) for _ in range(4)]
            bombs = [await run(bench, layers, BEYOND_IT) for _ in range(5)]
            assert [each.verdict for each in bombs] == ["memory"] * 5
            # Without a limit it would go on until the time was up. What it takes is for `benchmarks.sandbox`.
            assert max(each.wall_ms for each in bombs) < LIMITS.timeout_ms / 4
            return await asyncio.gather(*quiet)

    assert [(each.verdict, each.value) for each in asyncio.run(scenario())] == [("ok", "done")] * 4
