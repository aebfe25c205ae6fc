"""The code unit through a host: what callers see, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smol.client import connect
from smol.client.blocking import BlockingClient
from smol.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from smol.sandbox.cgroup import find_parent
from smol.sandbox.ground import explore
from smol.types import Attachment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MIB = 1 << 20


async def _tier() -> str:
    ground = await explore()
    await ground.close()
    return ground.isolation.tier


@pytest.fixture(scope="module")
def tier() -> str:
    found = asyncio.run(_tier())
    if found not in ("strong", "nocgroup"):
        pytest.skip(f"this machine holds code only by tier {found}")
    return found


@pytest.fixture
def client(serve: Any, tier: str) -> Iterator[BlockingClient]:
    with serve(SMOL_UNITS__CODE__SESSIONS="2") as served, connect(served.socket) as connection:
        yield connection


def test_a_run_tells_output_value_artifacts_and_what_held_it(client: BlockingClient, tier: str) -> None:
    run = client.code.run(
        source="import sys\nprint(input(), open('d/in.txt').read())\nprint('e', file=sys.stderr)\n"
        "open('out.csv', 'w').write('1,2')\n[1, 2]",
        stdin="hi",
        files=[Attachment(b"there", name="d/in.txt")],
    )
    assert (run["verdict"], run["stdout"], run["stderr"], run["value"]) == ("ok", "hi there\n", "e\n", [1, 2])
    assert [(a["name"], a["media_type"], bytes(a["attachment"].data)) for a in run["artifacts"]] == [
        ("out.csv", "text/csv", b"1,2")
    ]
    assert run["isolation"]["tier"] == tier
    assert "seccomp" in run["isolation"]["layers"]


def test_a_file_from_storage_is_put_in_however_the_code_is_run(client: BlockingClient) -> None:
    client.storage.put(key="k", collection="c", attachment=Attachment(b"stored", name="x"))
    given = {"source": "open('f').read()", "stored": {"f": "c/k"}}
    assert client.code.run(**given)["value"] == "stored"
    *_, last = client.code.stream.stream(**given)
    assert last["result"]["value"] == "stored"
    session = client.code.session_create()["session"]
    assert client.code.session_run(session=session, **given)["value"] == "stored"


def test_limits_end_in_verdicts_and_not_in_errors(client: BlockingClient, tier: str) -> None:
    began = time.monotonic()
    assert client.code.run(source="while True: pass", timeout_ms=300)["verdict"] == "timeout"
    assert client.code.run(source="x = bytearray(1 << 30)", memory_bytes=64 * MIB)["verdict"] == "memory"
    assert client.code.run(source="import os; os.fork()")["verdict"] == "forbidden"
    assert client.code.run(source="open('x', 'wb').write(b'x' * (1 << 26))")["verdict"] == "disk"
    assert time.monotonic() - began < 20


def test_what_was_asked_wrongly_is_an_error_that_says_what_to_do(client: BlockingClient) -> None:
    with pytest.raises(FailedPrecondition, match="name the hosts"):
        client.code.run(source="1", network=True)
    with pytest.raises(InvalidArgument, match="most_memory"):
        client.code.run(source="1", memory_bytes=1 << 39)
    with pytest.raises(InvalidArgument, match="relative path"):
        client.code.run(source="1", files=[Attachment(b"", name="../x")])
    with pytest.raises(InvalidArgument, match="no environment 'ds'"):
        client.code.run(source="1", environment="ds")
    with pytest.raises(NotFound, match="create another"):
        client.code.session_run(session="nope", source="1")


def test_code_with_a_network_is_kept_from_this_machine_and_the_caller_is_told(serve: Any, tier: str) -> None:
    source = (
        "import urllib.request as u\nfor url in ('http://localhost/', 'http://example.org:81/'):\n"
        "    try: u.urlopen(url)\n    except u.HTTPError as e: print(e.code, e.read().decode().strip())"
    )
    with (
        serve(SMOL_UNITS__CODE__NETWORK='{hosts = ["localhost", "example.org"]}') as served,
        connect(served.socket) as connection,
    ):
        run = connection.code.run(source=source, network=True)
        assert connection.code.run(source="import socket; socket.socket()")["verdict"] == "forbidden"
    assert (
        run["stdout"] == "403 host localhost has no public address\n403 port 81 is not allowed; allowed: 80, 443\n"
    )
    assert [(c["host"], c["port"], c["address"]) for c in run["contacts"]] == [
        ("localhost", 80, ""),
        ("example.org", 81, ""),
    ]


def test_a_session_has_its_network_during_runs(serve: Any, tier: str) -> None:
    ask = (
        "import urllib.request as u\ndef ask():\n    try: u.urlopen('http://localhost/', timeout=5)\n"
        "    except OSError as e: return getattr(e, 'code', str(e))\n"
        "import threading, time\nsaid = []\ndef later(): time.sleep(0.3); said.append(ask())\n"
        "nobody = threading.Thread(target=later)"
    )
    with (
        serve(SMOL_UNITS__CODE__NETWORK='{hosts = ["localhost"]}') as served,
        connect(served.socket) as connection,
    ):
        session = connection.code.session_create(network=True)
        assert session["network"]
        session_run = functools.partial(connection.code.session_run, session=session["session"])
        session_run(source=ask)
        for _ in range(2):  # Each run has a proxy of its own.
            run = session_run(source="ask()")
            assert (run["value"], [contact["host"] for contact in run["contacts"]]) == (403, ["localhost"])
        session_run(source="nobody.start()")
        time.sleep(0.6)
        assert session_run(source="said")["value"] == []
        connection.code.session_reset(session=session["session"])
        session_run(source=ask)
        assert session_run(source="ask()")["value"] == 403


def test_output_streams_as_it_comes(client: BlockingClient) -> None:
    pieces = list(client.code.stream.stream(source="import time\nfor i in range(3): print(i); time.sleep(0.2)\n7"))
    assert "".join(piece["text"] for piece in pieces) == "0\n1\n2\n"
    assert len(pieces) >= 3
    assert pieces[-1]["result"]["value"] == 7


def test_a_session_keeps_its_names_until_it_is_reset(client: BlockingClient) -> None:
    name = client.code.session_create()["session"]
    client.code.session_run(session=name, source="x = 41")
    assert client.code.session_run(session=name, source="x + 1")["value"] == 42
    client.code.session_reset(session=name)
    assert client.code.session_run(session=name, source="x")["verdict"] == "error"
    assert client.code.session_run(session=name, source="while True: pass", timeout_ms=300)["verdict"] == "timeout"
    assert client.code.sessions() == []


def test_a_session_stands_still_between_its_runs(client: BlockingClient) -> None:
    source = (
        "import threading, time\nn = 0\ndef count():\n    global n\n    while True: n += 1; time.sleep(0.01)\n"
        "threading.Thread(target=count, daemon=True).start()"
    )
    session_run = functools.partial(client.code.session_run, session=client.code.session_create()["session"])
    session_run(source=source)
    before = session_run(source="n")["value"]
    time.sleep(1)
    after = session_run(source="n")["value"]
    assert after - before < 30, "a hundred would have been there"
    assert session_run(source="time.sleep(1); n")["value"] - after > 30, "and it goes on"


def test_sessions_are_bounded(client: BlockingClient) -> None:
    names = [client.code.session_create()["session"] for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="close one"):
        client.code.session_create()
    client.code.session_close(session=names[0])
    client.code.session_create()


def test_source_is_checked_without_being_run(client: BlockingClient) -> None:
    problems = client.code.check(source="def f(x):\n    return x + y\n")["problems"]
    assert problems == [{"line": 2, "column": 16, "message": "undefined name 'y'"}]
    assert client.code.check(source="import os\nprint([a for a in os.environ])")["ok"]
    assert not client.code.check(source="def")["ok"]


def test_a_machine_below_the_minimum_refuses_and_says_why(serve: Any, tier: str) -> None:
    if tier == "strong":
        pytest.skip("this machine has all tiers")
    with serve(SMOL_UNITS__CODE__MINIMUM_TIER="strong") as served, connect(served.socket) as connection:
        isolation = connection.code.isolation()
        with pytest.raises(FailedPrecondition, match=f"tier '{isolation['tier']}'"):
            connection.code.run(source="1")


def test_runs_beside_each_other_are_not_charged_for_each_other(client: BlockingClient, tier: str) -> None:
    verdicts: list[str] = []

    def run(source: str) -> None:
        verdicts.append(client.code.run(source=source, memory_bytes=64 * MIB, timeout_ms=60_000)["verdict"])

    fits = "x = bytearray(24 << 20); import time; time.sleep(0.3); len(x)"
    threads = [threading.Thread(target=run, args=(fits,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == ["ok"] * 12


@pytest.mark.parametrize("victim", ["nursery", "unit", "host"])
def test_nothing_is_left_after_kill_9(victim: str, serve: Any, tier: str) -> None:
    with serve() as served:
        with connect(served.socket) as connection:
            connection.code.run(source="1")
            thread = threading.Thread(target=_sleep_in_a_run, args=(served.socket,))
            thread.start()
            _until(lambda: len(_descendants(served.pid)) > 4)
            time.sleep(0.5)
            everyone = _descendants(served.pid)
            nursery = next(pid for pid in everyone if "smol.sandbox.nursery" in _command(pid))
            sandboxed = set(_descendants(nursery))
            assert sandboxed
            cells = _cells(everyone)
            pid = {"nursery": nursery, "unit": _parent(nursery), "host": served.pid}[victim]
            os.kill(pid, signal.SIGKILL)
            thread.join()
        expected = sandboxed if victim == "nursery" else sandboxed | {nursery}
        _until(lambda: not any(_alive(pid) for pid in expected))
        if victim == "nursery":
            with connect(served.socket) as connection:
                assert connection.code.run(source="6 * 7")["value"] == 42
    _until(lambda: not any(Path(cell).exists() for cell in cells))


def _sleep_in_a_run(socket: Path) -> None:
    with contextlib.suppress(Exception), connect(socket) as connection:
        connection.code.run(source="import time; time.sleep(60)", timeout_ms=60_000)


def _until(holds: Any, within_seconds: float = 15.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _cells(units: list[int]) -> list[str]:
    with contextlib.suppress(FailedPrecondition):
        parent = find_parent()
        groups = [group for group in (parent.memory, parent.pids) if group is not None]
        return [str(path) for group in groups for pid in units for path in group.path.glob(f"**/box-{pid}-*")]
    return []


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


@pytest.mark.parametrize(
    ("language", "source"),
    [("python", 'print("{}" * (1 << 20))'), ("javascript", 'console.log("{}".repeat(1 << 20))')],
)
def test_output_that_no_message_could_carry_is_cut_and_told(
    client: BlockingClient, language: str, source: str
) -> None:
    for piece, kept in (("x", 256 << 10), ("\\x00", 50_000)):
        run = client.code.run(source=source.format(piece), language=language)
        assert (run["verdict"], run["stdout_bytes"]) == ("ok", (1 << 20) + 1)
        assert kept <= len(run["stdout"]) <= 256 << 10
