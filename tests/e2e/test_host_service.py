"""The host as a service: signals, what it tells systemd, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.errors import SmolError, Unavailable

pytestmark = pytest.mark.e2e


async def _ended(process: subprocess.Popen[bytes], seconds: float = 10.0) -> int:
    return await asyncio.to_thread(process.wait, seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_host_told_to_end_finishes_what_runs_and_begins_nothing_new(
    serve: Any, number: signal.Signals, gone: Callable[[int], bool]
) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            pid: Any = await client.call("probe.pid")
            running = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 0.5}))
            nested = asyncio.ensure_future(client.call("probe.forward_late", {"seconds": 0.3}))
            await client.call("probe.echo", {"text": "the calls before are on their way"})
            os.kill(served.pid, number)
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable, match="shutting down"):
                await client.call("probe.echo", {"text": "x"})
            with pytest.raises(Unavailable, match="no host listens"):
                async with smol.connect(served.socket):
                    pass
            assert await running == "slept"
            assert await nested == "late"
            assert await _ended(served.process) == 0
        assert gone(pid)
        assert not served.socket.exists()
        assert "Traceback" not in served.log


async def test_a_second_signal_ends_it_at_once(serve: Any, gone: Callable[[int], bool]) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            pid: Any = await client.call("probe.pid")
            running = asyncio.ensure_future(client.call("probe.sleep", {"seconds": 30}))
            await client.call("probe.echo", {"text": "x"})
            os.kill(served.pid, signal.SIGINT)
            await asyncio.sleep(0.1)
            assert not running.done()
            os.kill(served.pid, signal.SIGINT)
            assert await _ended(served.process, 2.0) == 1
            with pytest.raises(Unavailable):
                await running
        deadline = time.monotonic() + 1
        while not gone(pid):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_calls_that_do_not_end_are_cut_off_when_the_drain_is_over(serve: Any) -> None:
    with serve(SMOL_HOST_DRAIN_SECONDS="0.3") as served:
        async with smol.connect(served.socket) as client:
            calls = [
                asyncio.ensure_future(client.call(operation, {"seconds": 60}))
                for operation in ("probe.sleep", "probe.spin")
            ]
            await client.call("probe.echo", {"text": "x"})
            started = time.monotonic()
            served.process.terminate()
            assert await _ended(served.process) == 0
            assert time.monotonic() - started < 6
            for call in calls:
                with pytest.raises(SmolError):
                    await call


def test_a_signal_while_it_starts_ends_it_in_good_order(tmp_path: Path) -> None:
    for delay_seconds in (0.05, 0.2, 0.3, 0.35, 0.4):
        environ = {**os.environ, "SMOL_HOME": str(tmp_path), "SMOL_SOCKET": str(tmp_path / "s")}
        command = [sys.executable, "-m", "smol.cli.main", "serve"]
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        time.sleep(delay_seconds)
        process.terminate()
        _, log = process.communicate(timeout=10)
        assert process.returncode in (0, -signal.SIGTERM), log
        assert b"Traceback" not in log


async def test_a_second_host_at_the_same_place_is_refused(serve: Any) -> None:
    with serve() as served:
        environ = {**os.environ, "SMOL_HOME": str(served.socket.parent), "SMOL_SOCKET": str(served.socket)}
        command = [sys.executable, "-m", "smol.cli.main", "serve"]
        second = await asyncio.to_thread(
            subprocess.run, command, env=environ, capture_output=True, timeout=20, stdin=subprocess.DEVNULL
        )
        assert second.returncode != 0
        assert b"already listening" in second.stderr
        async with smol.connect(served.socket) as client:
            assert await client.call("probe.echo", {"text": "well"}) == "well"


async def test_sighup_reads_all_units_again(serve: Any, tmp_path: Path) -> None:
    units = tmp_path / "units"
    _write_unit(units / "one", "one", "first")
    _write_unit(units / "two", "two", "second")
    with serve(SMOL_HOST_UNIT_DIRECTORIES=str(units)) as served:
        async with smol.connect(served.socket) as client:
            assert await client.call("one.say") == "first"
            _write_unit(units / "one", "one", "changed")
            _write_unit(units / "three", "three", "third")
            (units / "two" / "unit.toml").unlink()
            os.kill(served.pid, signal.SIGHUP)
            os.kill(served.pid, signal.SIGHUP)
            deadline = time.monotonic() + 10
            while {"three", "two"} & (names := await _names(client)) != {"three"}:
                assert time.monotonic() < deadline, names
                await asyncio.sleep(0.02)
            assert await client.call("one.say") == "changed"
            assert await client.call("three.say") == "third"
            units_now: Any = await client.call("lifecycle.units")
            assert [entry for entry in units_now if entry["state"] == "unavailable"] == []


async def _names(client: Any) -> set[str]:
    return {entry["name"] for entry in await client.call("lifecycle.units")}


def _write_unit(directory: Path, name: str, text: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "unit.toml").write_text(f'[unit]\nname = "{name}"\nclass = "unit_{name}:Sayer"\n')
    (directory / f"unit_{name}.py").write_text(
        "from smol.sdk import Unit, operation\n\n\nclass Sayer(Unit):\n    @operation()\n"
        f"    async def say(self) -> str:\n        return {text!r}\n"
    )


class Systemd:
    """Listens as systemd does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)
        self.heard: list[str] = []

    def wait_for(self, words: str) -> None:
        while not any(words in state for state in self.heard):
            self.heard.append(self._socket.recv(4096).decode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(tmp_path / "notify")
    with contextlib.closing(listener):
        yield listener


def test_systemd_is_told_how_the_host_is(serve: Any, systemd: Systemd) -> None:
    with serve(NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="100000") as served:
        systemd.wait_for("READY=1")
        systemd.wait_for("WATCHDOG=1")
        os.kill(served.pid, signal.SIGHUP)
        systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=")
        systemd.heard.clear()
        systemd.wait_for("READY=1")
        served.process.terminate()
        systemd.wait_for("STOPPING=1")
        assert served.process.wait(10) == 0


def test_a_host_goes_on_when_systemd_does_not_listen(serve: Any, systemd: Systemd) -> None:
    with serve(NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="2000") as served:
        time.sleep(0.3)  # Far more than fits the socket that nobody reads.
        with smol.connect(served.socket) as client:
            assert client.call("probe.echo", {"text": "well"}) == "well"
