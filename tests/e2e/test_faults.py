"""What goes wrong stays where it happened: bad input, killed processes, callers that go away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import smol
from smol.client import Client
from smol.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.types import Attachment

UNITS = Path(__file__).parents[1] / "fixtures" / "units"
MIB = 1 << 20


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"SMOL_HOME": str(tmp_path), "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS)}


@contextlib.asynccontextmanager
async def host(settings: dict[str, str]) -> AsyncIterator[Client]:
    async with smol.local(settings) as s:
        yield s


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def state_of(s: Client, unit: str) -> dict[str, Any]:
    units = await s.lifecycle.units()
    return next(entry for entry in units if entry["name"] == unit)


async def test_wrong_names_and_types_are_refused_with_the_nearest_name(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        for call, kind, text in [
            (s.call("prob.echo", {"text": "x"}), NotFound, "'probe'"),
            (s.call("probe.ecko", {"text": "x"}), NotFound, "'probe.echo'"),
            (s.probe.ecko("x"), NotFound, "'echo'"),
            (s.call("probe.echo", {"texd": "x"}), InvalidArgument, "'text'"),
            (s.call("probe.echo", {"text": 1}), InvalidArgument, "`str`, got `int`"),
            (s.call("probe.echo", {}), InvalidArgument, "missing argument `text`"),
            (s.call("probe"), InvalidArgument, "unit.operation"),
            (s.probe.reverse("/no/such/file"), NotFound, "/no/such/file"),
            (s.probe.fail(), FailedPrecondition, "told to fail"),
            (s.probe.fail("bug"), Internal, "ZeroDivisionError"),
            (s.call("probe.count", {"items": 3}), InvalidArgument, "stream"),
        ]:
            with pytest.raises(kind) as caught:
                await call
            assert text in caught.value.message
        assert await s.probe.echo("still here") == "still here"


async def test_a_body_over_the_limit_fails_alone(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        with pytest.raises(ResourceExhausted, match="limit"):
            await s.probe.reverse(bytes(65 * MIB))
        answer = await s.probe.reverse(bytes(63 * MIB) + b"x")
        assert bytes(answer.data[:2]) == b"x\0"


async def test_a_peer_that_lies_about_its_limits_loses_only_its_call(settings: dict[str, str]) -> None:
    async with smol.local(settings) as s:
        raw = await asyncio.to_thread(connect_raw, s)
        with raw:
            send_raw(raw, {"type": "hello", "protocol": 1})
            assert receive_raw(raw)["type"] == "welcome"
            size = 65 * MIB
            head = {"type": "call", "id": 1, "operation": "probe.reverse", "attachments": [{"bytes": size}]}
            await asyncio.to_thread(send_raw, raw, head, bytes(size))
            refused = await asyncio.to_thread(receive_raw, raw)
            assert (refused["type"], refused["code"]) == ("error", "RESOURCE_EXHAUSTED")
            send_raw(raw, {"type": "call", "id": 2, "operation": "probe.echo", "arguments": {"text": "x"}})
            assert (await asyncio.to_thread(receive_raw, raw))["value"] == "x"


@pytest.mark.parametrize("garbage", ["noise", "zeros", "a huge header", "json without end"])
async def test_garbage_on_the_socket_harms_nobody(settings: dict[str, str], garbage: str) -> None:
    dice = random.Random(7)
    data = {
        "noise": dice.randbytes(MIB),
        "zeros": bytes(MIB),
        "a huge header": struct.pack(">II", 0xFFFFFFFF, 0) + b"x" * MIB,
        "json without end": struct.pack(">II", 1000, 0) + b"[" * MIB,
    }[garbage]
    async with smol.local(settings) as s:
        before = (await s.lifecycle.processes())[0]["pss_bytes"]
        for _ in range(3):
            raw = await asyncio.to_thread(connect_raw, s)
            with raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(34):
                    await asyncio.to_thread(raw.sendall, data)
        assert await s.probe.echo("x") == "x"
        after = (await s.lifecycle.processes())[0]["pss_bytes"]
        assert after - before < 4 * MIB


async def test_a_killed_worker_fails_its_call_at_once_and_is_back_within_a_second(
    settings: dict[str, str],
) -> None:
    async with host(settings) as s:
        pid = await s.probe.pid()
        delays, returns = [], []
        for _ in range(5):
            call = asyncio.ensure_future(s.probe.sleep(30))
            await asyncio.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            with pytest.raises(Unavailable):
                await call
            delays.append(time.monotonic() - killed)
            pid = await s.probe.pid()
            returns.append(time.monotonic() - killed)
        assert statistics.median(delays) < 0.1
        assert statistics.median(returns) < 1.0


async def test_an_idempotent_call_is_sent_once_more(settings: dict[str, str], tmp_path: Path) -> None:
    async with host(settings) as s:
        assert await s.probe.die_once(str(tmp_path / "marker")) == "survived"
        with pytest.raises(Unavailable):
            await s.probe.die()


async def test_a_killed_zygote_is_replaced_and_running_workers_live_on(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        pid = await s.probe.pid()
        zygote = next(entry["pid"] for entry in await s.lifecycle.processes() if entry["name"] == "zygote")
        os.kill(zygote, signal.SIGKILL)
        assert await s.probe.pid() == pid
        os.kill(pid, signal.SIGKILL)
        assert await s.probe.pid() != pid
        fresh = next(entry["pid"] for entry in await s.lifecycle.processes() if entry["name"] == "zygote")
        assert fresh != zygote


def test_nothing_outlives_a_killed_host(settings: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smol.cli.main", "serve"], env={**os.environ, **settings}, stderr=subprocess.DEVNULL
    )
    try:
        socket_file = tmp_path / "run" / "smol.sock"
        wait_for(socket_file.exists)
        with smol.connect(socket_file) as s:
            worker = s.probe.pid()
            zygote = next(entry["pid"] for entry in s.lifecycle.processes() if entry["name"] == "zygote")
            process.kill()
            process.wait()
            wait_for(lambda: not alive(worker) and not alive(zygote), seconds=1.0)
            with pytest.raises(Unavailable):
                s.probe.pid()
    finally:
        process.kill()
        process.wait()


def test_a_private_host_does_not_outlive_a_killed_client(settings: dict[str, str]) -> None:
    program = """
import smol, sys, time
with smol.local() as s:
    print(s.lifecycle.status()["pid"], s.probe.pid(), flush=True)
    time.sleep(60)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    pids = [int(word) for word in client.stdout.readline().split()]
    assert len(pids) == 2
    client.kill()
    client.communicate()
    wait_for(lambda: not any(map(alive, pids)), seconds=5.0)


async def test_a_unit_that_never_gets_ready_ends_failed_with_its_reason(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        with pytest.raises(Unavailable, match="plug it in"):
            await s.broken_start.run()
        deadline = time.monotonic() + 15
        while (found := await state_of(s, "broken_start"))["state"] != "failed":
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        assert "plug it in" in found["error"]
        with pytest.raises(Unavailable, match="failed"):
            await s.broken_start.run()
        assert await s.probe.echo("x") == "x"


async def test_a_caller_that_goes_away_cancels_its_call(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        await s.probe.echo("x")
        socket_file = Path((await s.lifecycle.status())["socket"])
        for operation in ("probe.sleep", "probe.spin"):
            before = await s.probe.cancelled()
            other = await Client.open(socket_file)
            call = asyncio.ensure_future(other.call(operation, {"seconds": 30}))
            await asyncio.sleep(0.1)
            await other.close()
            with pytest.raises(SmolError):
                await call
            deadline = time.monotonic() + 5
            while await s.probe.cancelled() == before:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)


async def test_a_cancelled_call_frees_its_place(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        for _ in range(12):  # More than the unit takes at once, and than may wait.
            call = asyncio.ensure_future(s.probe.sleep(30))
            await asyncio.sleep(0.02)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        assert await s.probe.echo("x") == "x"
        busy = [entry for entry in await s.lifecycle.processes() if entry["name"] == "probe"]
        assert [entry["calls"] for entry in busy] == [0]


async def test_a_deadline_is_kept_to_within_fifty_milliseconds(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        await s.probe.echo("x")
        late = []
        for _ in range(7):
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await s.within(0.2).probe.sleep(10)
            late.append(time.monotonic() - started - 0.2)
        assert statistics.median(late) < 0.05


async def test_a_worker_that_ignores_a_cancelled_call_is_ended(settings: dict[str, str]) -> None:
    async with host({**settings, "SMOL_HOST_CANCEL_GRACE_SECONDS": "0.3"}) as s:
        pid = await s.probe.pid()
        with pytest.raises(DeadlineExceeded):
            await s.within(0.1).probe.spin(60, polite=False)
        await until(lambda: not alive(pid), 5)
        assert await s.probe.pid() != pid


async def test_a_busy_unit_lets_some_wait_and_refuses_the_rest(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        calls = [asyncio.ensure_future(s.probe.sleep(0.3)) for _ in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, ResourceExhausted)]
        assert results.count("slept") == 4 + 8
        assert len(refused) == 8
        assert all(error.details["retry_after_ms"] >= 50 for error in refused)


async def test_streams_and_events_flow_and_end(settings: dict[str, str]) -> None:
    async with host(settings) as s:
        assert [item async for item in s.probe.count.stream(100)] == list(range(100))
        before = await s.probe.cancelled()
        stream = s.probe.count.stream(10**6, 0.001)
        assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
        await stream.aclose()
        deadline = time.monotonic() + 5
        while await s.probe.cancelled() == before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        events = s.events("probe.*")
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.2)
        await s.probe.announce("news", 3)
        assert (await first).topic == "probe.news"
        await events.aclose()


async def test_units_are_added_removed_and_reloaded_while_it_runs(
    settings: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "late"
    home.mkdir()
    (home / "unit.toml").write_text('[unit]\nname = "late"\nclass = "late:Late"\n')
    code = 'from smol.sdk import Unit, operation\nclass Late(Unit):\n    """Late."""\n    @operation()\n'
    (home / "late.py").write_text(
        f'{code}    async def say(self) -> str:\n        """Say."""\n        return "one"\n'
    )
    async with host(settings) as s:
        await s.lifecycle.add(str(home))
        assert await s.late.say() == "one"
        (home / "late.py").write_text(
            f'{code}    async def say(self) -> str:\n        """Say."""\n        return "two"\n'
        )
        await s.lifecycle.reload("late")
        assert await s.late.say() == "two"
        with pytest.raises(smol.SmolError, match="there already"):
            await s.lifecycle.add(str(home))
        await s.lifecycle.remove("late")
        with pytest.raises(NotFound):
            await s.call("late.say")
        (home / "late.py").write_text("syntax error here")
        with pytest.raises(FailedPrecondition, match="can't be loaded"):
            await s.lifecycle.add(str(home))
        with pytest.raises(NotFound):
            await s.call("late.say")


def test_a_host_drains_on_sigterm_and_reloads_on_sighup(settings: dict[str, str], tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(10)
    environment = {**os.environ, **settings, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "smol.cli.main", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert heard(listener, "READY=1")
        assert heard(listener, "WATCHDOG=1")
        with smol.connect(tmp_path / "run" / "smol.sock") as s:
            assert s.probe.echo("x") == "x"
            process.send_signal(signal.SIGHUP)
            assert heard(listener, "RELOADING=1")
            assert heard(listener, "READY=1")
            assert s.probe.echo("x") == "x"
            running = asyncio.run_coroutine_threadsafe(s._client.probe.sleep(0.5), s._loop)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert heard(listener, "STOPPING=1")
            assert running.result(10) == "slept"
        assert process.wait(15) == 0
    finally:
        process.kill()
        _, log = process.communicate()
        listener.close()
    assert "Traceback" not in log


@pytest.mark.timeout(120)
async def test_ten_thousand_calls_survive_a_worker_killed_again_and_again(settings: dict[str, str]) -> None:
    calls, clients = 10_000, 32
    async with host(settings) as s:
        await s.probe.echo("x")
        status = await s.lifecycle.status()
        descriptors = len(os.listdir(f"/proc/{status['pid']}/fd"))
        stop = asyncio.Event()
        killer = asyncio.ensure_future(kill_now_and_then(s, stop))
        remaining = iter(range(calls))
        socket_file = Path(status["socket"])
        outcomes = await asyncio.gather(*(call_mixed(socket_file, remaining) for _ in range(clients)))
        stop.set()
        assert await killer > 0
        answered, unavailable = (sum(outcome[i] for outcome in outcomes) for i in (0, 1))
        assert answered + unavailable == calls
        assert answered > calls * 0.5  # The rest met a dying or a busy worker, and were told so.
        await asyncio.sleep(0.3)
        workers = [entry for entry in await s.lifecycle.processes() if entry["name"] == "probe"]
        assert [entry["calls"] + entry["waiting"] for entry in workers] == [0]
        assert len(os.listdir(f"/proc/{status['pid']}/fd")) <= descriptors + 1
        assert zombies_of(status["pid"]) == 0


async def kill_now_and_then(s: Client, stop: asyncio.Event) -> int:
    killed = 0
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
        with contextlib.suppress(SmolError, ProcessLookupError):
            os.kill(await s.probe.pid(), signal.SIGKILL)
            killed += 1
    return killed


async def call_mixed(socket_file: Path, remaining: Iterator[int]) -> tuple[int, int]:
    """Calls answered rightly, and calls that met a dying or busy worker."""
    answered = unavailable = 0
    async with await Client.open(socket_file) as s:
        for number in remaining:
            try:
                if number % 10 == 0:
                    data = number.to_bytes(4, "big") * 500
                    assert bytes((await s.call("probe.reverse", {"data": Attachment(data)})).data) == data[::-1]
                elif number % 10 == 1:
                    items = [item async for item in s.stream("probe.count", {"items": 5})]
                    assert items == list(range(5))
                else:
                    assert await s.call("probe.echo", {"text": str(number)}) == str(number)
                answered += 1
            except ResourceExhausted as error:
                await asyncio.sleep(error.details["retry_after_ms"] / 1000)
                unavailable += 1
            except (Unavailable, Cancelled):
                unavailable += 1
    return answered, unavailable


def zombies_of(pid: int) -> int:
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += not alive(int(child))
    return found


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def heard(listener: socket.socket, state: str) -> bool:
    """Whether systemd would hear `state`, among other things, within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if state in listener.recv(4096).decode().splitlines():
            return True
    return False


def connect_raw(s: Client) -> socket.socket:
    """A socket to the host of a client, with nothing of Smol behind it."""
    assert s._channel is not None
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(20)
    raw.connect(s._channel._transport.get_extra_info("peername"))  # type: ignore[union-attr]
    return raw


def send_raw(raw: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    data = msgspec.json.encode(header)
    raw.sendall(struct.pack(">II", len(data), len(body)) + data + body)


def receive_raw(raw: socket.socket) -> Any:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += raw.recv(count - len(data)) or pytest.fail("the host hung up")
        return data

    header_bytes, body_bytes = struct.unpack(">II", exactly(8))
    header = msgspec.json.decode(exactly(header_bytes))
    exactly(body_bytes)
    return header
