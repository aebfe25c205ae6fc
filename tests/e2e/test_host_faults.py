"""Processes die at any moment: who waits is told at once, the rest goes on, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.client import Client
from smol.errors import Cancelled, DeadlineExceeded, SmolError, Unavailable

pytestmark = pytest.mark.e2e


async def _until(true: Callable[[], bool], seconds: float) -> float:
    """Wait until something is true; returns how long that took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def _process(client: Client, name: str) -> dict[str, Any]:
    processes: Any = await client.call("lifecycle.processes")
    return next((process for process in processes if process["name"] == name), {})


async def _unit(client: Client, name: str) -> dict[str, Any]:
    units: Any = await client.call("lifecycle.units")
    return next(unit for unit in units if unit["name"] == name)


async def test_a_killed_worker_fails_its_call_at_once_and_is_back_for_the_next(start: Any) -> None:
    told, back = [], []
    async with start() as client:
        for _ in range(5):
            pid: Any = await client.call("probe.pid")
            call = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 30}))
            await client.call("probe.echo", {"text": "the call before is on its way"})
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match=r"probe\.sleep"):
                await call
            told.append(time.monotonic() - killed)
            assert await client.call("probe.pid") != pid
            back.append(time.monotonic() - killed)
    assert sorted(told)[2] < 0.1
    assert sorted(back)[2] < 1.0


async def test_an_idempotent_call_is_run_once_more_and_no_more(start: Any, tmp_path: Path) -> None:
    async with start() as client:
        assert await client.call("probe.die_once", {"marker": str(tmp_path / "marker")}) == "survived"
        with pytest.raises(Unavailable):
            await client.call("probe.die")
        with pytest.raises(Unavailable):
            await client.call("probe.die_always", {"marker": str(tmp_path / "runs")})
    assert (tmp_path / "runs").read_text() == "xx"


async def test_a_killed_zygote_is_replaced_and_running_workers_do_not_notice(start: Any) -> None:
    async with start() as client:
        pid = await client.call("probe.pid")
        call = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 0.5}))
        zygote = (await _process(client, "zygote"))["pid"]
        os.kill(zygote, signal.SIGKILL)
        assert await client.call("lifecycle.start", {"name": "foreign"})
        assert await client.call("foreign.shout", {"text": "a"}) == "A"
        assert (await _process(client, "zygote"))["pid"] != zygote
        assert await call == "slept"
        assert await client.call("probe.pid") == pid


async def test_a_zygote_killed_while_it_forks_costs_nobody_a_call(start: Any) -> None:
    async with start() as client:
        for _ in range(3):
            zygote = (await _process(client, "zygote"))["pid"]
            os.kill(zygote, signal.SIGSTOP)
            call = asyncio.ensure_future(client.call("probe.echo", {"text": "x"}))
            await asyncio.sleep(0.05)
            os.kill(zygote, signal.SIGKILL)
            assert await call == "x"
            await client.call("lifecycle.stop", {"name": "probe"})
            assert (await _process(client, "probe"))["crashes"] == 0


async def test_no_worker_outlives_a_killed_host(serve: Any, gone: Callable[[int], bool]) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            pids = [await client.call("probe.pid"), (await _process(client, "zygote"))["pid"]]
            await client.call("foreign.shout", {"text": "a"})
            pids.append((await _process(client, "foreign"))["pid"])
            blocked = asyncio.ensure_future(client.call("probe.block", {"seconds": 20}))
            await asyncio.sleep(0.05)
            served.process.kill()
            await _until(lambda: all(map(gone, pids)), 1.0)
            with pytest.raises(Unavailable):
                await blocked


async def test_a_private_host_ends_with_its_killed_client(gone: Callable[[int], bool], tmp_path: Path) -> None:
    program = (
        f"import smol, time\nwith smol.local({{'SMOL_HOME': {str(tmp_path)!r}}}) as client:\n"
        "    print(client.call('lifecycle.status')['pid'], flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        host = int(await asyncio.to_thread(process.stdout.readline))
        process.kill()
    await _until(lambda: gone(host), 3.0)


async def test_a_unit_that_never_gets_ready_fails_with_its_reason_and_the_rest_run(start: Any) -> None:
    async with start() as client:
        with pytest.raises(Unavailable, match="plug it in"):
            await client.call("broken_start.run")
        deadline = time.monotonic() + 10
        while (await _unit(client, "broken_start"))["state"] != "failed":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        entry = await _unit(client, "broken_start")
        assert "plug it in" in entry["error"]
        assert (await _process(client, "broken_start"))["crashes"] == 4  # max_restarts and one more
        with pytest.raises(Unavailable, match="failed: its device is missing"):
            await client.call("broken_start.run")
        assert await client.call("probe.echo", {"text": "well"}) == "well"
        with pytest.raises(Unavailable, match="plug it in"):  # A person may try again.
            await client.call("lifecycle.start", {"name": "broken_start"})


@pytest.mark.parametrize("operation", ["probe.sleep", "probe.spin"])
async def test_a_caller_that_goes_away_cancels_its_call_in_the_worker(start: Any, operation: str) -> None:
    async with start() as client:
        path = (await client.call("lifecycle.status"))["socket"]
        async with smol.connect(path) as other:
            call = asyncio.ensure_future(other.call(operation, {"seconds": 30}))
            await other.call("probe.echo", {"text": "the call before is on its way"})
        with pytest.raises(Unavailable):
            await call
        deadline = time.monotonic() + 3
        while await client.call("probe.cancelled") != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_a_cancelled_task_cancels_its_call_and_its_stream(start: Any) -> None:
    async with start() as client:
        call = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 30}))
        await client.call("probe.echo", {"text": "x"})
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, Cancelled):
            await call
        async with contextlib.aclosing(client.stream("probe.count", {"items": 1000})) as items:
            assert [item async for item in _first(items, 3)] == [0, 1, 2]
        deadline = time.monotonic() + 3
        while await client.call("probe.cancelled") != 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def _first(items: Any, count: int) -> Any:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


@pytest.mark.parametrize("operation", ["probe.sleep", "probe.spin", "probe.block"])
async def test_a_deadline_is_kept(start: Any, operation: str) -> None:
    late = []
    async with start(SMOL_HOST_CANCEL_GRACE_SECONDS="0.2") as client:
        await client.call("probe.echo", {"text": "it runs"})
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await client.within(0.2).call(operation, {"seconds": 0.3})
            late.append(time.monotonic() - started - 0.2)
            await asyncio.sleep(0.15)
    assert min(late) > -0.01
    assert sorted(late)[1] < 0.05


async def test_a_call_that_waits_for_its_turn_keeps_its_deadline_too(start: Any) -> None:
    async with start() as client:
        running = [asyncio.ensure_future(client.call("probe.sleep", {"seconds": 0.6})) for _ in range(4)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="still waiting for its turn"):
            await client.within(0.2).call("probe.echo", {"text": "x"})
        assert time.monotonic() - started < 0.4
        assert await asyncio.gather(*running) == ["slept"] * 4


async def test_a_worker_that_goes_on_after_a_cancelled_call_is_killed(start: Any) -> None:
    async with start(SMOL_HOST_CANCEL_GRACE_SECONDS="0.2") as client:
        pid = await client.call("probe.pid")
        with pytest.raises(DeadlineExceeded):
            await client.within(0.1).call("probe.spin", {"seconds": 30, "polite": False})
        deadline = time.monotonic() + 3
        while True:
            with contextlib.suppress(SmolError):
                if await client.call("probe.pid") != pid:
                    return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_what_a_worker_leaves_behind_goes_with_it(start: Any, gone: Callable[[int], bool]) -> None:
    async with start() as client:
        children: Any = await client.call("probe.spawn", {"count": 2})
        detached: Any = await client.call("probe.spawn", {"count": 2, "detached": True})
        assert not any(map(gone, children + detached))
        os.kill(await client.call("probe.pid"), signal.SIGKILL)
        await _until(lambda: all(map(gone, children)), 1.0)
        await _until(lambda: all(map(gone, detached)), 3.0)
        host = (await client.call("lifecycle.status"))["pid"]
        await _until(lambda: not _zombies(host), 3.0)
        assert await client.call("probe.echo", {"text": "well"}) == "well"


def _zombies(parent: int) -> list[int]:
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.append(int(pid))
    return found


async def test_a_worker_asked_to_stop_finishes_what_it_has_and_the_rest_waits_for_the_next(start: Any) -> None:
    async with start() as client:
        running = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 0.3}))
        pid = await client.call("probe.pid")
        stopping = asyncio.ensure_future(client.call("lifecycle.stop", {"name": "probe"}))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(client.call("probe.pid"))
        assert await running == "slept"
        assert await waiting != pid
        await stopping


async def test_a_worker_can_be_stopped_while_it_starts(start: Any) -> None:
    async with start() as client:
        for _ in range(10):
            call = asyncio.ensure_future(client.call("probe.echo", {"text": "x"}))
            await asyncio.sleep(0.004)
            stopping = client.call("lifecycle.stop", {"name": "probe"})
            assert (await asyncio.gather(call, stopping))[0] == "x"
        assert (await _process(client, "probe"))["crashes"] == 0
