"""Go and Python call each other through a host, and what goes wrong on one side is told on the other."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.client import BlockingClient, Client
from smol.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.host.golang import MODULE, find_toolchain, sdk_directory
from smol.sdk import Attachment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.usefixtures("go_tools")]

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parents[1] / "fixtures" / "units"
BODY_BYTES = 64 * 2**20
LOAD = {"gopher.echo": 64, "probe.echo": 12}
"""Goroutines; as many as the unit takes calls, those that wait included."""


@pytest.fixture
def patient(serve: Any) -> Any:
    """A host that is patient with a large load."""
    return lambda: serve(SMOL_HOST_CALLS_PER_CONNECTION="1000")


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# From Python to Go ------------------------------------------------------------------------------


def test_a_go_unit_is_called_as_any_other(start: Any) -> None:
    with start() as client:
        assert client.gopher.echo("⅔ \x00 \u2028") == "⅔ \x00 \u2028"
        assert list(client.stream("gopher.count", {"items": 1000})) == list(range(1000))
        with pytest.raises(FailedPrecondition, match="told to fail") as caught:
            client.gopher.fail()
        assert caught.value.details == {"hint": "none"}
        with pytest.raises(Internal, match="nil pointer"):
            client.gopher.bug()
        with pytest.raises(NotFound, match="did you mean 'echo'"):
            client.call("gopher.ecko")
        with pytest.raises(InvalidArgument, match="unknown argument 'txt' \\(did you mean 'text'"):
            client.call("gopher.echo", {"txt": "x"})
        with pytest.raises(InvalidArgument, match="is a stream"):
            client.call("gopher.count", {"items": 1})
        description = client.describe("gopher")
        echo = next(operation for operation in description.operations if operation.name == "echo")
        assert echo.input == {
            "title": "Input",
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        }
        assert (echo.read_only, echo.idempotent, echo.summary) == (True, True, "Return the text.")


def test_attachments_of_any_size_up_to_the_limit_go_to_go_and_back(start: Any) -> None:
    with start() as client:
        for size in (0, 1, 70_000, BODY_BYTES):
            data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            back: Any = client.call("gopher.reverse", {"data": Attachment(data, "image/png", "a.png")})
            assert bytes(back.data) == data[::-1]
            assert (back.media_type, back.name) == ("image/png", "a.png")
        with pytest.raises(ResourceExhausted):
            client.call("gopher.reverse", {"data": Attachment(bytes(BODY_BYTES + 1))})


async def test_a_call_of_go_ends_with_its_deadline_and_with_its_caller(start: Any) -> None:
    async with start() as client:
        await _health(client)  # It is built by now.
        told: list[tuple[float, str]] = []
        with pytest.raises(DeadlineExceeded):
            await client.within(0.3).call(
                "gopher.sleep", {"seconds": 30}, on_progress=lambda *args: told.append(args)
            )
        assert told == [(0.5, "half")]
        call = asyncio.ensure_future(client.call("gopher.sleep", {"seconds": 30}))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with contextlib.aclosing(client.stream("gopher.count", {"items": 10**9})) as items:
            async for item in items:
                if item == 20:
                    break
        async with asyncio.timeout(10):
            while (await _health(client))["stopped"] < 3:
                await asyncio.sleep(0.01)
        assert (await _health(client))["pid"] > 0


async def _health(client: Client) -> dict[str, Any]:
    health: dict[str, Any] = await client.call("gopher.health")
    return health


async def test_a_killed_go_worker_fails_its_call_at_once_and_is_back_for_the_next(start: Any) -> None:
    async with start() as client:
        for _ in range(3):
            pid = (await _health(client))["pid"]
            call = asyncio.ensure_future(client.call("gopher.sleep", {"seconds": 30}))
            await client.call("gopher.echo", {"text": "the call before is on its way"})
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match=r"gopher\.sleep"):
                await call
            assert time.monotonic() - killed < 20  # Far less than it would have slept.
            assert (await _health(client))["pid"] != pid
        with pytest.raises(Unavailable, match="ended during the call"):
            await client.call("gopher.die")
        assert await client.call("gopher.echo", {"text": "back"}) == "back"


def test_what_a_go_unit_prints_goes_to_the_log(serve: Any) -> None:
    with serve() as served, smol.connect(served.socket) as client:
        client.call("gopher.shout", {"text": "printed in the middle of the wire"})
        assert client.call("gopher.echo", {"text": "unharmed"}) == "unharmed"
        _eventually(lambda: "printed in the middle of the wire" in served.log)


def test_ten_thousand_calls_at_a_go_unit_leave_nothing_behind(patient: Any) -> None:
    with patient() as served, smol.connect(served.socket) as client:
        client.call("gateway.address")  # It starts beside the others, and connects to the host too.
        before: Any = client.call("gopher.health")
        host_before = _descriptors(served.pid)

        async def load() -> None:
            async with smol.connect(served.socket) as busy:
                numbers = iter(range(10_000))

                async def call() -> None:
                    for number in numbers:
                        assert await busy.call("gopher.echo", {"text": str(number)}) == str(number)

                await asyncio.gather(*(call() for _ in range(64)))

        asyncio.run(load())
        _eventually(lambda: client.call("gopher.health")["goroutines"] <= before["goroutines"])
        assert client.call("gopher.health")["descriptors"] <= before["descriptors"]
        _eventually(lambda: _descriptors(served.pid) <= host_before)


# From Go ----------------------------------------------------------------------------------------


def test_a_client_in_go_calls_units_in_python(serve: Any, driver: Any) -> None:
    with serve() as served:
        go = driver(served.socket)
        assert go("call", "probe.echo", '{"text": "⅔"}')["value"] == "⅔"
        assert go("call", "probe.report", "{}")["progress"] == ["0.5 half"]
        assert go("stream", "probe.count", '{"items": 100}')["items"] == list(range(100))
        assert go("stream", "probe.count", '{"items": 1000000}', 5)["items"] == [0, 1, 2, 3, 4]
        _eventually(lambda: go("call", "probe.cancelled", "{}")["value"] == 2)
        for size in (0, 70_000, BODY_BYTES):
            assert go("reverse", "probe.reverse", size) == {"bytes": size, "same": True}
        assert go("reverse", "probe.reverse", BODY_BYTES + 1)["code"] == "RESOURCE_EXHAUSTED"
        failed = go("call", "probe.fail", "{}")
        assert (failed["code"], failed["details"]) == ("FAILED_PRECONDITION", {"hint": "none"})
        assert go("call", "probe.sleep", '{"seconds": 30}', 1)["code"] == "DEADLINE_EXCEEDED"
        assert go("call", "prope.echo", "{}")["code"] == "NOT_FOUND"
        assert go("call", "probe.count", '{"items": 1}')["code"] == "INVALID_ARGUMENT"
        announce = '{"topic": "news", "count": 3}'
        assert go("events", "probe.*", 3, "probe.announce", announce)["events"] == [0, 1, 2]
    assert go("call", "probe.echo", "{}")["code"] == "UNAVAILABLE"


def test_sixty_four_goroutines_make_ten_thousand_calls_and_leave_nothing_behind(patient: Any, driver: Any) -> None:
    with patient() as served:
        go = driver(served.socket)
        assert go("rate", "math.evaluate", '{"expression": "1+1"}', 64, 1)["per_second"] > 0
        for unit in ("gopher", "probe"):
            assert go("call", f"{unit}.echo", '{"text": "ready"}')["value"] == "ready"
        descriptors = _descriptors(served.pid)
        for operation in ("gopher.echo", "probe.echo", "gopher.echo"):
            answer = go("load", operation, 10_000 if operation == "gopher.echo" else 1000, LOAD[operation])
            assert answer == {"wrong": 0, "failed": 0, "reason": None, "leaked": 0}
        _eventually(lambda: _descriptors(served.pid) <= descriptors + 2)  # A client that comes, and one that goes.


def test_a_killed_client_in_go_takes_its_calls_with_it(serve: Any, driver: Any) -> None:
    with serve() as served, smol.connect(served.socket) as client:
        stopped = client.call("gopher.health")["stopped"]
        with driver(served.socket).start("call", "gopher.sleep", '{"seconds": 60}') as process:
            _eventually(lambda: _calls(client, "gopher") == 1)
            process.kill()
        _eventually(lambda: client.call("gopher.health")["stopped"] == stopped + 1)
        assert _calls(client, "gopher") == 0


def _calls(client: BlockingClient, worker: str) -> int:
    processes: Any = client.call("lifecycle.processes")
    return int(next(process["calls"] for process in processes if process["name"] == worker))


def test_a_killed_host_is_noticed_by_a_client_and_a_unit_in_go(
    serve: Any, driver: Any, gone: Callable[[int], bool]
) -> None:
    with serve() as served:
        with smol.connect(served.socket) as client:
            pid = client.call("gopher.health")["pid"]
            with driver(served.socket).start("call", "gopher.sleep", '{"seconds": 60}') as process:
                _eventually(lambda: _calls(client, "gopher") == 1)
                served.process.kill()
                output, _ = process.communicate(timeout=20)
        assert b"UNAVAILABLE" in output
        _eventually(lambda: gone(pid))


# Across both ------------------------------------------------------------------------------------


async def test_go_calls_python_which_calls_go(start: Any) -> None:
    async with start() as client:
        await _health(client)
        inner = {"operation": "gopher.echo", "text": "there and back"}
        outer = {"operation": "probe.forward", "arguments": inner}
        assert await client.call("gopher.forward", outer) == "there and back"
        stream = {"operation": "probe.count", "arguments": {"items": 1000}}
        assert await client.call("gopher.sum", stream) == 499_500
        stream["operation"] = "gopher.count"
        assert await client.call("gopher.sum", stream) == 499_500
        with pytest.raises(FailedPrecondition, match="told to fail"):
            await client.call("gopher.forward", {"operation": "probe.fail"})
        asleep = {"operation": "probe.sleep", "arguments": {"seconds": 30}}
        with pytest.raises(DeadlineExceeded):
            await client.within(0.3).call("gopher.forward", asleep)
        call = asyncio.ensure_future(client.call("gopher.forward", asleep))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(10):
            while await client.call("probe.cancelled") < 2:
                await asyncio.sleep(0.01)


async def test_events_of_go_arrive_in_python_and_in_go(serve: Any, driver: Any) -> None:
    with serve() as served:
        async with smol.connect(served.socket) as client:
            await _health(client)
            async with contextlib.aclosing(client.events("gopher.*")) as events:
                first = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0.1)
                await client.call("gopher.announce", {"items": 100})
                heard = [await first] + [await anext(events) for _ in range(99)]
        assert [(event.topic, event.data, event.dropped) for event in heard] == [
            ("gopher.news", number, 0) for number in range(100)
        ]
        go = driver(served.socket)
        answer = await asyncio.to_thread(go, "events", "gopher.news", 100, "gopher.announce", '{"items": 100}')
        assert answer["events"] == list(range(100))


async def test_a_stream_between_go_and_python_waits_for_its_reader(start: Any) -> None:
    async with start() as client:
        for operation in ("gopher.count", "probe.count"):
            async with contextlib.aclosing(client.stream(operation, {"items": 10**9})) as items:
                assert await anext(items) == 0
                await asyncio.sleep(0.3)  # Far more than the credit would be sent by now.
                assert await anext(items) == 1


def test_the_commands_of_the_page_on_go_work(serve: Any, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "units-in-go.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [command for block in blocks for command in block.splitlines()]
    assert any("--lang go" in command for command in commands)
    with serve() as served:
        environ = {**os.environ, "SMOL_HOME": str(tmp_path / "home"), "SMOL_SOCKET": str(served.socket)}
        environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for command in commands:
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if "greet" in command:
                assert "hello you, hello you" in done.stdout
    go = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    tested = subprocess.run(
        [find_toolchain().go, "test", "./..."], cwd=tmp_path / "hello", env=go, capture_output=True, text=True
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_files_unit_touches_what_it_may_and_nothing_else(start: Any, tmp_path: Path) -> None:
    home = tmp_path / "photos"
    (home / "deep").mkdir(parents=True)
    (home / "a").write_bytes(b"same" * 1000)
    (home / "deep" / "b").write_bytes(b"same" * 1000)
    (home / "out").symlink_to("/etc")
    settings = {
        "SMOL_HOST_UNIT_DIRECTORIES": str(sdk_directory() / "cmd" / "files"),
        "SMOL_UNITS__FILES__ROOTS": json.dumps([str(home)]),
    }
    with start(**settings) as client:
        digest = hashlib.sha256(b"same" * 1000).hexdigest()
        assert client.files.hash(str(home / "a"))["digest"] == digest
        found: Any = client.files.duplicates(str(home))
        assert [group["digest"] for group in found["groups"]] == [digest]
        assert found["wasted_bytes"] == 4000
        (home / "a").write_text("one\nx\n")
        lines: Any = client.stream("files.follow", {"path": str(home / "a"), "until": "x"})
        assert [line["text"] for line in lines] == ["one", "x"]
        for path in ("/etc/passwd", str(home / "out" / "passwd"), str(home / ".." / "home")):
            with pytest.raises(PermissionDenied):
                client.files.hash(path)
        with pytest.raises(PermissionDenied, match="writable"):
            client.call("files.pack", {"paths": [str(home)], "target": str(home / "x.zip")})


# What goes wrong --------------------------------------------------------------------------------


def _state(client: BlockingClient, name: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while True:
        entries: Any = client.call("lifecycle.units")
        entry: dict[str, Any] = next((each for each in entries if each["name"] == name), {"state": ""})
        if entry["state"] in states:
            return entry
        assert time.monotonic() < end, entry
        time.sleep(0.02)


def _write(home: Path, files: dict[str, str]) -> Path:
    home.mkdir()
    (home / "unit.toml").write_text(f'[unit]\nname = "{home.name}"\ngo = "."\nmax_restarts = 1\n')
    for name, text in files.items():
        (home / name).write_text(text)
    return home


MODULE_FILE = f"module strange\n\ngo 1.24\n\nrequire {MODULE} v0.0.0\n"
FOREIGN_HELLO = """package main

import (
	"net"
	"os"
	"strconv"
	"time"

	"smol.local/smol/wire"
)

type deaf struct{}

func (deaf) Receive(*wire.Conn, wire.Message, []byte) {}
func (deaf) Closed(*wire.Conn, error)                 { os.Exit(4) }

func main() {
	number, _ := strconv.Atoi(os.Getenv("SMOL_WORKER_FD"))
	stream, _ := net.FileConn(os.NewFile(uintptr(number), "host"))
	conn := wire.NewConn(stream, wire.Peer, wire.DefaultLimits, deaf{})
	hello := &wire.Hello{Protocol: PROTOCOL, Units: []wire.UnitDescription{{Name: "NAME"}}}
	_ = conn.Send(hello)
	go conn.Run()
	time.Sleep(time.Minute)
}
"""


@pytest.mark.parametrize(
    ("files", "state", "told"),
    [
        ({}, "unavailable", "holds no .go file"),
        ({"main.go": "package main\n\nfunc main() {}\n"}, "unavailable", "no go.mod"),
        ({"go.mod": MODULE_FILE, "main.go": "package main\n\nfunc main() { x }\n"}, "unavailable", "undefined: x"),
        ({"go.mod": MODULE_FILE, "main.go": "package strange\n"}, "unavailable", "'package main'"),
        ({"go.mod": "modul x\n", "main.go": "package main\n"}, "unavailable", "go.mod"),
        (
            {
                "go.mod": MODULE_FILE,
                "main.go": 'package main\n\nimport _ "example.com/not/there"\n\nfunc main() {}\n',
            },
            "unavailable",
            "example.com/not/there",
        ),
        (
            {"go.mod": MODULE_FILE, "main.go": 'package main\n\nfunc main() { panic("oh") }\n'},
            "failed",
            "status 2",
        ),
        ({"go.mod": MODULE_FILE, "main.go": "package main\n\nfunc main() {}\n"}, "failed", "exit status 0"),
        (
            {"go.mod": MODULE_FILE, "main.go": FOREIGN_HELLO.replace("PROTOCOL", "99")},
            "failed",
            "protocol version 99",
        ),
        (
            {"go.mod": MODULE_FILE, "main.go": FOREIGN_HELLO.replace("PROTOCOL", "1").replace("NAME", "math")},
            "failed",
            r"it serves \['math'\], its manifest says",
        ),
    ],
)
def test_a_go_unit_that_can_not_run_says_why(
    start: Any, tmp_path: Path, files: dict[str, str], state: str, told: str
) -> None:
    home = _write(tmp_path / "strange", files)
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(home), GOPROXY="off") as client:
        with pytest.raises(Unavailable, match=told):
            client.call("strange.run")
        assert _state(client, "strange", state)["error"]
        with pytest.raises(SmolError, match=told):
            client.call("lifecycle.add", {"path": str(_write(tmp_path / "other", files))})
        assert client.call("math.evaluate", {"expression": "1+1"})


@pytest.mark.parametrize(
    ("manner", "told"),
    [("refuse", "plug it in"), ("panic", "on purpose"), ("crash", "status 3"), ("greedy", "expected one of")],
)
def test_a_go_unit_that_does_not_get_ready_says_why(start: Any, manner: str, told: str) -> None:
    with start(SMOL_UNITS__GOPHER__MANNER=manner) as client, pytest.raises(Unavailable, match=told):
        client.call("gopher.echo", {"text": "x"})


def test_a_name_that_is_taken_is_refused(start: Any) -> None:
    with start() as client, pytest.raises(AlreadyExists, match="gopher"):
        client.call("lifecycle.add", {"path": str(FIXTURES / "gopher")})


def test_a_go_unit_is_built_once_and_anew_when_its_source_changes(start: Any, tmp_path: Path) -> None:
    source = (sdk_directory() / "internal" / "gopher" / "main.go").read_text()
    home = _write(tmp_path / "mine", {"go.mod": MODULE_FILE, "main.go": source})
    builds = tmp_path / "home" / "data" / "go"
    with start() as client:
        client.call("lifecycle.add", {"path": str(home)})
        assert client.call("mine.echo", {"text": "x"}) == "x"
        first = [stamp.parent for stamp in builds.glob("*/smol.json")]
        client.call("lifecycle.restart", {"name": "mine"})
        assert [stamp.parent for stamp in builds.glob("*/smol.json")] == first
        (home / "main.go").write_text(source.replace("return in.Text, nil", "return in.Text + in.Text, nil"))
        client.call("lifecycle.reload", {"unit": "mine"})
        assert client.call("mine.echo", {"text": "x"}) == "xx"
        second = [stamp.parent for stamp in builds.glob("*/smol.json")]
        assert len(second) == 1 and second != first
        assert (home / "go.mod").read_text() == MODULE_FILE


async def test_a_cancelled_call_of_an_unprepared_worker_is_told(start: Any) -> None:
    async with start(SMOL_UNITS__GOPHER__MANNER="slow") as client:
        call = asyncio.ensure_future(client.within(1.0).call("gopher.echo", {"text": "x"}))
        with pytest.raises((DeadlineExceeded, Cancelled)):
            await call
        stopped: Any = await client.call("lifecycle.stop", {"name": "gopher"})
        assert stopped["state"] == "stopped"
