"""Units come and go while the host runs; what is wrong with one is said, and stays with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smol.client import BlockingClient
from smol.errors import AlreadyExists, InvalidArgument, NotFound, SmolError, Unavailable

pytestmark = pytest.mark.e2e

FOREIGN = Path(__file__).parents[1] / "fixtures" / "units" / "foreign" / "foreign.py"


def _unit(client: BlockingClient, name: str) -> dict[str, Any]:
    entries: Any = client.call("lifecycle.units")
    return next((entry for entry in entries if entry["name"] == name), {})


def _state_of(client: BlockingClient, name: str, *states: str) -> dict[str, Any]:
    """The unit, once it is in one of these states."""
    deadline = time.monotonic() + 10
    while (entry := _unit(client, name))["state"] not in states:
        assert time.monotonic() < deadline, entry
        time.sleep(0.01)
    return entry


def _write_manifest(directory: Path, **keys: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    values = {"name": directory.name, **keys}
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    (directory / "unit.toml").write_text("[unit]\n" + "\n".join(lines) + "\n")
    return directory


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _write_sayer(directory: Path, text: str, **keys: Any) -> Path:
    _write_manifest(directory, **{"class": f"unit_{directory.name}:Sayer"}, **keys)
    (directory / f"unit_{directory.name}.py").write_text(
        "from smol.sdk import Unit, operation\n\n\nclass Sayer(Unit):\n    @operation()\n"
        f"    async def say(self) -> str:\n        return {text!r}\n"
    )
    return directory


def test_an_executable_that_speaks_the_wire_is_a_unit_like_any_other(start: Any) -> None:
    with start() as client:
        assert client.call("foreign.shout", {"text": "hello"}) == "HELLO"
        assert list(client.stream("foreign.count")) == [0, 1, 2]
        with pytest.raises(NotFound, match=r"foreign\.whisper"):
            client.call("foreign.whisper")
        assert [operation.name for operation in client.describe("foreign").operations] == ["shout", "count"]
        processes: Any = client.call("lifecycle.processes")
        pid = next(process["pid"] for process in processes if process["name"] == "foreign")
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        assert client.call("foreign.shout", {"text": "again"}) == "AGAIN"


@pytest.mark.parametrize(
    ("command", "state", "told"),
    [
        (["./not_there"], "unavailable", "no executable"),
        (["./unit.toml"], "unavailable", "no executable"),
        (["./damaged"], "failed", "can't be executed"),
        (["/bin/false"], "failed", "exit status 1"),
        (["/bin/cat", "/dev/null"], "failed", "exit status 0"),
        ([str(FOREIGN), "crasher"], "failed", "exit status 3"),
        ([str(FOREIGN), "chatterer"], "failed", "header"),
        ([str(FOREIGN), "futurist"], "failed", "protocol version 99"),
        ([str(FOREIGN), "thief"], "failed", "it serves \\['math'\\], its manifest says \\['strange'\\]"),
        ([str(FOREIGN), "mute"], "failed", "not ready within 0.3 s"),
    ],
)
def test_an_executable_that_is_no_unit_is_told_why(
    start: Any, tmp_path: Path, command: list[str], state: str, told: str
) -> None:
    patience = 0.3 if command[-1] == "mute" else 10
    home = _write_manifest(tmp_path / "strange", command=command, max_restarts=1, start_timeout_seconds=patience)
    damaged = home / "damaged"
    damaged.write_bytes(b"\x7fELF of another world")
    damaged.chmod(0o755)
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(home)) as client:
        with pytest.raises(Unavailable, match=told):
            client.call("strange.shout", {"text": "x"})
        entry = _state_of(client, "strange", state)
        assert entry["error"]
        with pytest.raises(Unavailable, match=told):
            client.call("strange.shout", {"text": "x"})
        assert client.call("math.evaluate", {"expression": "1+1"})


def test_units_are_added_removed_and_reloaded_while_the_host_runs(
    start: Any, tmp_path: Path, gone: Callable[[int], bool]
) -> None:
    home = _write_sayer(tmp_path / "sayer", "one")
    with start() as client:
        with pytest.raises(NotFound, match="sayer"):
            client.call("sayer.say")
        assert client.call("lifecycle.add", {"path": str(home)})["name"] == "sayer"
        assert client.call("sayer.say") == "one"
        with pytest.raises(AlreadyExists):
            client.call("lifecycle.add", {"path": str(home)})
        _write_sayer(home, "two", concurrency=2)
        client.call("lifecycle.reload", {"unit": "sayer"})
        assert client.call("sayer.say") == "two"
        (home / "unit.toml").write_text("[unit]\nname = 5\n")
        with pytest.raises(InvalidArgument, match="name"):
            client.call("lifecycle.reload", {"unit": "sayer"})
        assert client.call("sayer.say") == "two"
        processes: Any = client.call("lifecycle.processes")
        pid = next(process["pid"] for process in processes if process["name"] == "sayer")
        client.call("lifecycle.remove", {"unit": "sayer"})
        assert gone(pid)
        with pytest.raises(NotFound):
            client.call("sayer.say")


def test_a_unit_that_can_not_be_loaded_is_not_added(start: Any, tmp_path: Path) -> None:
    home = _write_sayer(tmp_path / "sayer", "one")
    (home / "unit_sayer.py").write_text("import a_module_that_is_not_there\n")
    with start() as client:
        with pytest.raises(SmolError, match="a_module_that_is_not_there"):
            client.call("lifecycle.add", {"path": str(home)})
        assert _unit(client, "sayer") == {}
        _write_sayer(home, "mended")
        client.call("lifecycle.add", {"path": str(home)})
        assert client.call("sayer.say") == "mended"


def test_units_share_a_worker_and_one_may_join_or_leave_it(start: Any, tmp_path: Path) -> None:
    units = tmp_path / "units"
    one = _write_sayer(units / "one", "1", worker="both", needs=["two"])
    two = _write_sayer(tmp_path / "later" / "two", "2", worker="both")
    three = _write_sayer(units / "three", "3", needs=["one"])
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(units)) as client:
        with pytest.raises(Unavailable, match="'two' is needed and not there"):
            client.call("one.say")
        client.call("lifecycle.add", {"path": str(two)})
        assert client.call("three.say") == "3"
        assert [client.call("one.say"), client.call("two.say")] == ["1", "2"]
        names = [entry["name"] for entry in client.call("lifecycle.processes")]
        assert names.count("both") == 1
        _write_sayer(three, "3", needs=["four"], worker="both")
        _write_sayer(tmp_path / "later" / "four", "4", needs=["one"])
        client.call("lifecycle.add", {"path": str(tmp_path / "later" / "four")})
        with pytest.raises(InvalidArgument, match="circle"):
            client.call("lifecycle.reload", {"unit": "three"})
        client.call("lifecycle.remove", {"unit": "two"})
        with pytest.raises(Unavailable, match="'two' is needed and not there"):
            client.call("one.say")
        _write_sayer(one, "alone", worker="both")
        client.call("lifecycle.reload", {"unit": "one"})
        assert client.call("one.say") == "alone"


def test_a_fallback_answers_for_a_unit_that_can_not_run(start: Any, tmp_path: Path) -> None:
    units = tmp_path / "units"
    _write_manifest(units / "proud", command=["./not_there"], fallback="humble")
    _write_sayer(units / "humble", "at your service")
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(units)) as client:
        with pytest.raises(Unavailable):
            client.call("proud.say")
        assert client.call("proud.say") == "at your service"
        assert _unit(client, "proud")["state"] == "unavailable"


def test_a_unit_that_is_to_run_always_is_started_unasked_and_again(start: Any, tmp_path: Path) -> None:
    home = _write_sayer(tmp_path / "sayer", "x", restart="always")
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(home)) as client:
        _state_of(client, "sayer", "ready")
        client.call("lifecycle.reload", {"unit": "sayer"})
        _state_of(client, "sayer", "ready")
        processes: Any = client.call("lifecycle.processes")
        pid = next(process["pid"] for process in processes if process["name"] == "sayer")
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        _state_of(client, "sayer", "ready")
        client.call("lifecycle.remove", {"unit": "sayer"})
        client.call("lifecycle.add", {"path": str(home)})
        _state_of(client, "sayer", "ready")


def test_a_unit_that_is_never_restarted_fails_with_its_first_crash(start: Any, tmp_path: Path) -> None:
    home = _write_sayer(tmp_path / "sayer", "x", restart="never")
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(home)) as client:
        assert client.call("sayer.say") == "x"
        processes: Any = client.call("lifecycle.processes")
        os.kill(next(process["pid"] for process in processes if process["name"] == "sayer"), signal.SIGKILL)
        assert "never restarted" in _state_of(client, "sayer", "failed")["error"]
        client.call("lifecycle.start", {"name": "sayer"})
        assert client.call("sayer.say") == "x"


def test_a_unit_without_a_queue_is_started_by_its_first_call(start: Any, tmp_path: Path) -> None:
    home = _write_sayer(tmp_path / "sayer", "x", queue=0, concurrency=1)
    with start(SMOL_HOST_UNIT_DIRECTORIES=str(home)) as client:
        assert client.call("sayer.say") == "x"
