"""Programs through a real host: run, and cut off by a kill of the executor's worker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.errors import InvalidArgument, Unavailable

pytestmark = pytest.mark.e2e

STORING = """
name: storing
steps:
  - {id: sum, call: math.evaluate, with: {expression: "${{ input.expression }}"}}
  - {id: kept, call: storage.put, with: {key: sum, value: "${{ steps.sum.exact }}"}}
  - wait: 1
  - {call: storage.put, with: {key: after, value: 1}}
  - return: "${{ steps.sum.exact }}"
"""


async def test_a_program_runs_and_a_wrong_one_is_refused_with_its_line(tmp_path: Path) -> None:
    async with smol.local({"SMOL_HOME": str(tmp_path)}) as s:
        assert await s.call("executor.run", {"program": STORING, "input": {"expression": "2/3"}}) == "2/3"
        assert (await s.storage.get("sum"))["value"] == "2/3"
        with pytest.raises(InvalidArgument, match=r"line 4.*missing argument"):
            await s.call("executor.run", {"program": STORING.replace("expression:", "expresion:")})


async def test_a_killed_executor_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    async with smol.local({"SMOL_HOME": str(tmp_path)}) as s:
        run = (await s.call("executor.submit", {"program": STORING, "input": {"expression": "2/3"}}))["id"]
        while len(await s.executor.history(run)) < 3:
            await asyncio.sleep(0.02)
        workers = {entry["name"]: entry["pid"] for entry in await s.lifecycle.processes()}
        os.kill(workers["executor"], signal.SIGKILL)
        while (pid := {e["name"]: e["pid"] for e in await s.lifecycle.processes()}["executor"]) in (
            0,
            workers["executor"],
        ):
            await asyncio.sleep(0.02)
        assert pid
        assert await s.executor.result(run) == "2/3"
        history = await s.executor.history(run)
        assert [step["operation"] for step in history] == ["math.evaluate", "storage.put", "wait", "storage.put"]
        assert all(step["memory_bytes"] > 2**20 for step in history if step["operation"] != "wait")
        assert (await s.storage.get("sum"))["version"] == 1
        assert (await s.storage.get("after"))["version"] == 2  # The second write of all.
        assert (await s.executor.status(run))["state"] == "done"


@pytest.mark.timeout(90)
async def test_a_program_goes_on_after_its_host_was_killed(
    serve: Any, gone: Callable[[int], bool], tmp_path: Path
) -> None:
    program = STORING.replace("wait: 1", "wait: 2")
    with serve() as first:
        async with smol.connect(first.socket) as s:
            run = (await s.call("executor.submit", {"program": program, "input": {"expression": "2/3"}}))["id"]
            while len(await s.executor.history(run)) < 3:
                await asyncio.sleep(0.02)
            workers = [entry["pid"] for entry in await s.lifecycle.processes() if entry["pid"] > 0]
            first.process.kill()
    deadline = time.monotonic() + 2
    while not all(gone(pid) for pid in workers):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    with serve() as second:
        async with smol.connect(second.socket) as s:
            while {e["name"]: e["state"] for e in await s.lifecycle.processes()}["executor"] != "ready":
                await asyncio.sleep(0.05)  # Unasked: there is work left.
            assert await s.executor.result(run) == "2/3"
            assert [step["operation"] for step in await s.executor.history(run)].count("storage.put") == 2
            assert (await s.storage.get("after"))["version"] == 2


async def test_runs_belong_to_one_host_at_a_time(serve: Any, tmp_path: Path) -> None:
    with serve() as host:
        async with smol.connect(host.socket) as s:
            await s.executor.list()
            home = host.socket.parent
            async with smol.local({"SMOL_HOME": str(home)}) as private:
                with pytest.raises(Unavailable, match="open in another process"):
                    await private.call("executor.submit", {"program": STORING, "input": {"expression": "1"}})


async def test_a_program_waits_for_an_event_and_takes_what_it_wants_of_a_stream(tmp_path: Path) -> None:
    text = """
steps:
  - id: seen
    wait: {event: "host.unit", where: "${{ event.data.unit == 'math' }}"}
    timeout_seconds: 30
  - id: logged
    call: lifecycle.events
    with: {since: 0, follow: true}
    collect: {items: 3}
  - id: brief
    call: lifecycle.events
    with: {since: 0, follow: true}
    collect: {items: 10000, seconds: 0.3}
  - return: {change: "${{ steps.seen.data.change }}", first: "${{ steps.logged[].sequence }}"}
"""
    async with smol.local({"SMOL_HOME": str(tmp_path)}) as s:
        run = (await s.call("executor.submit", {"program": text}))["id"]
        while (await s.executor.status(run))["state"] == "running":
            await s.call("lifecycle.enable", {"unit": "storage"})  # Not the one that is waited for.
            await s.call("lifecycle.enable", {"unit": "math"})
            await asyncio.sleep(0.02)
        assert await s.executor.result(run) == {"change": "enabled", "first": [1, 2, 3]}
        with pytest.raises(InvalidArgument, match="say how much of it to `collect`"):
            await s.call("executor.run", {"program": "steps: [{call: lifecycle.events}]"})
