"""The levers and the records of a running host: logs, switches, start-up, reloads, and one host at a socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.client import Client
from smol.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

pytestmark = pytest.mark.e2e

TALKER = """
import os, sys, threading, time
from smol.sdk import Context, Unit, operation

class Talker(Unit):
    @operation()
    async def say(self, context: Context, text: str) -> int:
        print(f"printed {text}")
        print(f"error {text}", file=sys.stderr)
        context.log.error("logged %s", text)
        os.system(f"echo 'from a child {text}'")
        return os.getpid()

    @operation()
    def shout(self, megabytes: int) -> float:
        began = time.monotonic()
        line = b"x" * 99 + b"\\n"
        for _ in range(megabytes * 10):
            os.write(1, line * 1000)
        return time.monotonic() - began

    @operation(read_only=True)
    async def setting(self, context: Context) -> str:
        return context.settings.get("word", "none")
"""


def write_unit(directory: Path, name: str, code: str = TALKER, **more: str) -> Path:
    home = directory / name
    home.mkdir(parents=True, exist_ok=True)
    lines = [
        "[unit]",
        f'name = "{name}"',
        f'class = "{name}_code:Talker"',
        *(f"{k} = {v}" for k, v in more.items()),
    ]
    (home / "unit.toml").write_text("\n".join(lines))
    (home / f"{name}_code.py").write_text(code)
    return home


async def _eventually(found: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := await found()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return value


async def _lines(client: Client, name: str, lines: int = 1000) -> list[str]:
    return [line["text"] async for line in client.stream("lifecycle.logs", {"name": name, "lines": lines})]


def _cli(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smol.cli.main", "--socket", str(socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


async def test_whatever_a_worker_writes_is_in_its_log(start: Any, tmp_path: Path) -> None:
    units = write_unit(tmp_path / "units", "talker").parent
    async with start(SMOL_HOST_UNIT_DIRECTORIES=str(units)) as client:
        await client.call("talker.say", {"text": "hello"})

        async def complete() -> bool:
            text = "\n".join(await _lines(client, "talker"))
            return all(
                part in text for part in ("printed hello", "error hello", "logged hello", "from a child hello")
            )

        await _eventually(complete)
        following = client.stream("lifecycle.logs", {"name": "talker", "lines": 0, "follow": True})
        coming = asyncio.ensure_future(anext(aiter(following)))
        await asyncio.sleep(0.1)
        await client.call("talker.say", {"text": "again"})
        assert "again" in (await coming)["text"]
        assert await _lines(client, "host") == []  # A private host is quiet unless something is wrong.
        with pytest.raises(NotFound, match="did you mean 'talker'"):
            await _lines(client, "talkr")


async def test_a_chatty_worker_neither_waits_nor_fills_the_disk(start: Any, tmp_path: Path) -> None:
    units = write_unit(tmp_path / "units", "talker").parent
    settings = {"SMOL_HOST_UNIT_DIRECTORIES": str(units), "SMOL_HOST_LOG_SIZE": "256KiB"}
    async with start(**settings) as client:
        shouting = asyncio.ensure_future(client.call("talker.shout", {"megabytes": 64}))
        slowest = 0.0
        while not shouting.done():
            began = time.monotonic()
            await client.call("lifecycle.health")
            slowest = max(slowest, time.monotonic() - began)
        await shouting
        assert slowest < 2.0  # The host went on with everything else.
        logs = tmp_path / "home" / "state" / "logs"
        assert sum(file.stat().st_size for file in logs.glob("talker.log*")) <= 256 * 1024
        await asyncio.sleep(1.0)
        await client.call("talker.say", {"text": "calm"})

        async def told() -> bool:
            return any("lines were dropped" in line for line in await _lines(client, "talker"))

        await _eventually(told)


async def test_a_disabled_unit_refuses_calls_until_it_is_enabled_also_in_the_next_host(serve: Any) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            pid = await client.call("probe.pid")
            assert (await client.call("lifecycle.disable", {"unit": "probe"}))["state"] == "disabled"
            with pytest.raises(FailedPrecondition, match="smol enable probe"):
                await client.call("probe.pid")
            with pytest.raises(FailedPrecondition, match="smol enable probe"):
                await client.call("lifecycle.start", {"name": "probe"})
            assert not Path(f"/proc/{pid}").exists()
            with pytest.raises(InvalidArgument, match="lives in the host"):
                await client.call("lifecycle.disable", {"unit": "lifecycle"})
        served.process.terminate()
        served.process.wait(20)
    with serve() as served:
        async with smol.connect(served.socket) as client:
            with pytest.raises(FailedPrecondition, match="is disabled"):
                await client.call("probe.pid")
            assert (await client.call("lifecycle.health"))["off"] == ["probe"]
            assert _cli(served.socket, "enable", "probe").stdout == "unit probe is enabled\n"
            assert await client.call("probe.pid")


async def test_a_drained_worker_finishes_what_it_has_and_is_refused_until_it_is_started(start: Any) -> None:
    async with start() as client:
        running = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 0.5}))
        await client.call("probe.echo", {"text": "the call before is on its way"})
        draining = asyncio.ensure_future(client.call("lifecycle.drain", {"name": "probe"}))
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable, match="smol start probe"):
            await client.call("probe.pid")
        assert await running == "slept"
        assert (await draining)["state"] == "stopped"
        assert (await client.call("lifecycle.start", {"name": "probe"}))["state"] == "ready"
        assert await client.call("probe.pid")


async def test_a_unit_whose_need_was_disabled_works_once_that_is_enabled(start: Any, tmp_path: Path) -> None:
    units = write_unit(tmp_path / "units", "base").parent
    write_unit(units, "above", needs='["base"]')
    async with start(SMOL_HOST_UNIT_DIRECTORIES=str(units)) as client:
        await client.call("lifecycle.disable", {"unit": "base"})
        with pytest.raises(Unavailable, match="smol enable base"):
            await client.call("above.setting")
        await client.call("lifecycle.enable", {"unit": "base"})
        assert await client.call("above.setting") == "none"
        assert "above\n└─ base" in await client.call("lifecycle.graph")


async def test_the_start_and_the_last_stop_are_told(serve: Any) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            await client.call("probe.pid")
        served.process.terminate()
        served.process.wait(20)
    with serve() as served:
        async with smol.connect(served.socket) as client:
            record = await client.call("lifecycle.boot")
            assert record["critical"][0] == "load"
            assert 0 < record["serving_seconds"] < 60
            assert record["last_stop"]["clean"]
            assert "probe" in [phase["name"] for phase in record["last_stop"]["phases"]]
        assert json.loads(_cli(served.socket, "--json", "boot").stdout)["began"] == record["began"]
        assert "Waited for: load" in _cli(served.socket, "boot").stdout
        served.process.kill()
        served.process.wait(20)
    with serve() as served:
        assert "was killed" in _cli(served.socket, "boot").stdout


async def test_sighup_restarts_only_what_changed(serve: Any, tmp_path: Path) -> None:
    units = tmp_path / "units"
    for name in ("source", "manifest", "settings", "same"):
        write_unit(units, name)
    config = tmp_path / "smol.toml"
    config.write_text('[units.settings]\nword = "old"\n')
    names = ("source", "manifest", "settings", "same")
    with serve(SMOL_HOST_UNIT_DIRECTORIES=str(units), SMOL_CONFIG=str(config)) as served:
        async with smol.connect(served.socket) as client:
            before = {name: await client.call(f"{name}.say", {"text": "x"}) for name in names}
            assert await client.call("settings.setting") == "old"
            write_unit(units, "source", TALKER + "\n# changed\n")
            write_unit(units, "manifest", concurrency="2")
            config.write_text('[units.settings]\nword = "new"\n')
            os.kill(served.pid, signal.SIGHUP)

            async def reloaded() -> bool:
                return any(line.endswith(" reloaded") for line in await _lines(client, "host"))

            await _eventually(reloaded)
            after = {name: await client.call(f"{name}.say", {"text": "x"}) for name in names}
            assert {name for name in names if before[name] == after[name]} == {"same"}
            assert await client.call("settings.setting") == "new"
            config.write_text("[units")  # Broken settings leave everything as it is.
            os.kill(served.pid, signal.SIGHUP)

            async def complained() -> bool:
                return any("settings can't be read" in line for line in await _lines(client, "host"))

            await _eventually(complained)
            assert await client.call("same.say", {"text": "x"}) == after["same"]


def test_of_hosts_that_start_at_once_exactly_one_serves(tmp_path: Path) -> None:
    environ = {**os.environ, "SMOL_HOME": str(tmp_path), "SMOL_SOCKET": str(tmp_path / "s")}
    command = [sys.executable, "-m", "smol.cli.main", "serve"]
    hosts = [
        subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) for _ in range(4)
    ]
    try:
        deadline = time.monotonic() + 30
        while sum(host.poll() is not None for host in hosts) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with smol.connect(tmp_path / "s") as client:
            assert client.call("math.evaluate", {"expression": "6*7"})["exact"] == "42"
        (alive,) = [host for host in hosts if host.poll() is None]
        for host in hosts:
            if host is not alive:
                assert host.stderr is not None
                assert b"already listening" in host.stderr.read()
        alive.terminate()
        assert alive.wait(20) == 0
    finally:
        for host in hosts:
            host.kill()
            host.wait()
            assert host.stderr is not None
            host.stderr.close()


async def test_a_worker_that_never_says_hello_is_ended(start: Any, tmp_path: Path) -> None:
    home = tmp_path / "units" / "mute"
    home.mkdir(parents=True)
    (home / "unit.toml").write_text(
        '[unit]\nname = "mute"\ncommand = ["/bin/sleep", "1000"]\nstart_timeout_seconds = 0.5\nmax_restarts = 1\n'
    )
    async with start(SMOL_HOST_UNIT_DIRECTORIES=str(home.parent)) as client:
        with pytest.raises(Unavailable, match=r"not ready within 0\.5 s"):
            await client.call("mute.anything")

        async def failed() -> bool:
            return any(p["name"] == "mute" and p["state"] == "failed" for p in await _problems(client))

        await _eventually(failed)
        processes = await client.call("lifecycle.processes")
        assert [entry["pid"] for entry in processes if entry["name"] == "mute"] == [0]


async def _problems(client: Client) -> list[dict[str, Any]]:
    health = await client.call("lifecycle.health")
    assert (health["status"] == "degraded") == bool(health["problems"])
    return list(health["problems"])
