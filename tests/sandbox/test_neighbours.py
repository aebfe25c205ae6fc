"""Runs beside each other: what one takes is never charged to another, and one that overruns ends alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
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
READ_WITH_ROOM = "for _ in range(3): read = sum(map(len, open('/usr/share/read', 'rb')))\nread"
READ_WITH_LESS_AND_LESS = """
import mmap
file = open("/usr/share/read", "rb")
read = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
data = [bytearray(b"x") * (112 << 20)]
while True: data.append(bytearray(b"x") * (64 << 10)); sum(read[::4096])
"""
QUIET = "import time\nfor _ in range(20): time.sleep(0.05); sum(range(10_000))\n'done'"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone]


async def run(bench: Bench, layers: tuple[str, ...], source: str, reads: str = "") -> Outcome:
    kind = python_kind(bench.keeper)
    if reads:
        kind = msgspec.structs.replace(kind, binds=(*kind.binds, (reads, "/usr/share/read")))
    async with await Box.made(bench.keeper, kind, layers, LIMITS, bench.parent) as box:
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


def _forget(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_run_with_no_memory_left_for_the_files_it_reads_ends_at_once(tmp_path: Path) -> None:
    """The kernel drops a page and reads it again, for ever, and finds nobody out of memory."""
    layers = require(LAYERS)
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(192):
            file.write(b"a line of text.\n" * (MIB // 16))
        os.fsync(file.fileno())

    async def scenario() -> list[Outcome]:
        outcomes = []
        async with Bench(layers) as bench:
            for source in (READ_WITH_ROOM, READ_WITH_LESS_AND_LESS):
                _forget(large)  # What is in memory already is charged to whoever read it first.
                outcomes.append(await run(bench, layers, source, str(large)))
        return outcomes

    ample, short = asyncio.run(scenario())
    assert (ample.verdict, ample.value) == ("ok", 192 << 20), "a file larger than the limit does no harm"
    assert short.verdict == "memory", short.stderr
    assert short.wall_ms < LIMITS.timeout_ms / 4
