"""Many runs, after which nothing may be left: processes, cgroups, mounts, IPC objects, descriptors."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from smol.sandbox.box import Box
from smol.sandbox.kinds import python_kind
from smol.sandbox.records import LAYERS, Job, Limits
from tests.sandbox.harness import Bench, require

RUNS = int(os.environ.get("SMOL_SOAK_RUNS", "100"))

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone]


def counted() -> dict[str, int]:
    """What could pile up on the host."""
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared memory": Path("/proc/sysvipc/shm").read_text().count("\n"),
    }


def test_nothing_is_left_after_many_runs() -> None:
    layers = require(LAYERS)

    async def scenario() -> None:
        async with Bench(layers) as bench:
            kind, limits = python_kind(bench.keeper), Limits(timeout_ms=20_000)
            before: dict[str, int] = {}
            for index in range(RUNS):
                async with await Box.made(bench.keeper, kind, layers, limits, bench.parent) as box:
                    outcome = await box.run(Job(source=f"open('x', 'w').write('x'); {index}"), limits)
                    assert (outcome.verdict, outcome.value) == ("ok", index)
                before = before or counted()
            assert bench.leftovers() == []
            assert counted() == before

    asyncio.run(scenario())
