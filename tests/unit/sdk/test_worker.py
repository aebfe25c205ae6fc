"""A worker as a process of its own, on a socket pair."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from smol.protocol import FrameDecoder, Limits, Role, Session
from smol.protocol.messages import Call, Drain, Error, Hello, Message, Result, Subscribe, Welcome
from smol.sdk.worker import FD_VARIABLE, SPEC_VARIABLE, UnitSpec, WorkerSpec

UNIT = '''
import os
from smol.sdk import Unit, operation

class Greeter(Unit):
    """Greets."""

    @operation()
    async def greet(self, name: str) -> list[str]:
        """Greet somebody."""
        return [f"Hello {name}", *(key for key in os.environ if key.startswith("SMOL_WORKER"))]

class Broken:
    pass
'''


class Line:
    """The host's end of the socket pair, blocking."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen[str]) -> None:
        self.connection = connection
        self.process = process
        self.session = Session(Role.HOST)
        self.decoder = FrameDecoder(Limits())
        self.heard: list[Message] = []

    def send(self, message: Message) -> None:
        self.connection.sendall(b"".join(self.session.send(message)))

    def read(self) -> Any:
        while not self.heard:
            data = self.connection.recv(65536)
            assert data, "the worker hung up"
            for frame in self.decoder.feed(data):
                message = self.session.receive(frame)
                assert isinstance(message, Message)
                self.heard.append(message)
        return self.heard.pop(0)


@contextmanager
def started(tmp_path: Path, **unit: Any) -> Iterator[Line]:
    (tmp_path / "greeting_for_tests.py").write_text(UNIT)
    fields: dict[str, Any] = {
        "name": "greeter",
        "class_path": "greeting_for_tests:Greeter",
        "search": str(tmp_path),
    }
    spec = WorkerSpec(name="greeter", units=[UnitSpec(**{**fields, **unit})], log_format="json")
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    environment = {
        **os.environ,
        SPEC_VARIABLE: msgspec.json.encode(spec).decode(),
        FD_VARIABLE: str(theirs.fileno()),
    }
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "smol.sdk.worker"], env=environment, pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        try:
            yield Line(ours, process)
        finally:
            process.kill()
            process.communicate()


def test_a_started_worker_serves_until_drained_whatever_ctrl_c_says(tmp_path: Path) -> None:
    with started(tmp_path) as line:
        hello = line.read()
        assert isinstance(hello, Hello)
        assert [unit.name for unit in hello.units] == ["greeter"]
        line.process.send_signal(signal.SIGINT)
        line.send(Welcome(protocol=1))
        line.send(Call(id=1, operation="greeter.greet", arguments=msgspec.Raw(b'{"name":"you"}')))
        result, listening = sorted((line.read(), line.read()), key=lambda message: type(message).__name__)
        assert isinstance(listening, Subscribe)
        assert listening.topic == "host.trim"
        assert isinstance(result, Result)
        assert bytes(result.value) == b'["Hello you"]'
        line.send(Drain())
        assert line.process.wait(20) == 0


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("greeting_for_tests:Missing", "can't be loaded: AttributeError"),
        ("not_there:Greeter", "can't be loaded: ModuleNotFoundError"),
        ("greeting_for_tests:Broken", "is not a smol.sdk.Unit"),
    ],
)
def test_a_unit_that_cannot_be_loaded_is_told_to_the_host(tmp_path: Path, class_path: str, message: str) -> None:
    with started(tmp_path, class_path=class_path) as line:
        error = line.read()
        assert isinstance(error, Error)
        assert (error.id, error.code) == (0, "FAILED_PRECONDITION")
        assert message in error.message
        assert line.process.wait(20) == 1


def test_a_worker_ends_when_its_host_does(tmp_path: Path) -> None:
    with started(tmp_path) as line:
        line.read()
        line.connection.close()
        assert line.process.wait(20) in (0, 1)


def test_a_worker_started_by_hand_says_who_starts_it() -> None:
    done = subprocess.run([sys.executable, "-m", "smol.sdk.worker"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "started by a host" in done.stderr
