"""Whatever is here starts processes: it runs with `make e2e` and `make test`, not with `make unit`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import smol
from smol.client import Connector
from smol.errors import FailedPrecondition
from smol.host.golang import FLAGS, find_toolchain, sdk_directory

HERE = Path(__file__).parent
UNITS = HERE.parent / "fixtures" / "units"

HTTP = {"SMOL_GATEWAY_LISTEN": "127.0.0.1:0"}
"""A port for each host of its own."""

Start: TypeAlias = Callable[..., Connector]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a private host with the units of the tests, and more settings as environment variables."""

    def start_host(**settings: str) -> Connector:
        return smol.local(
            {
                "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS),
                "SMOL_HOME": str(tmp_path / "home"),
                **HTTP,
                **settings,
            }
        )

    return start_host


class Served:
    """A host that was started as `smol serve`."""

    def __init__(self, process: subprocess.Popen[bytes], socket_path: Path, log: Path) -> None:
        self.process = process
        self.socket = socket_path
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()


Serve: TypeAlias = Callable[..., contextlib.AbstractContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Run `smol serve` and wait until it serves. It is killed at the end if it still runs."""

    @contextlib.contextmanager
    def serve_host(**settings: str) -> Iterator[Served]:
        home, log = tmp_path / "home", tmp_path / "log"
        environ: Mapping[str, str] = {
            **os.environ,
            "SMOL_HOME": str(home),
            "SMOL_SOCKET": str(home / "s"),
            **HTTP,
            "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS),
            **settings,
        }
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "smol.cli.main", "serve", "--ready-fd", str(writer)]
        with log.open("wb") as stream, open(reader, "rb") as ready:
            try:
                process = subprocess.Popen(
                    command, env=environ, pass_fds=[writer], stderr=stream, stdin=subprocess.DEVNULL
                )
            finally:
                os.close(writer)
            try:
                assert ready.read(1) == b"1", log.read_text()
                yield Served(process, home / "s", log)
            finally:
                process.kill()
                process.wait()

    return serve_host


class RawWire:
    """A client without manners: it sends the bytes it is told."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)

    def frame(self, header: Mapping[str, Any], body: bytes = b"") -> bytes:
        data = json.dumps(header).encode()
        return struct.pack(">II", len(data), len(body)) + data + body

    def greet(self) -> dict[str, Any]:
        self.socket.sendall(self.frame({"type": "hello", "protocol": 1}))
        return self.receive()

    def receive(self) -> dict[str, Any]:
        header_bytes, body_bytes = struct.unpack(">II", self._take(8))
        header: dict[str, Any] = json.loads(self._take(header_bytes))
        self._take(body_bytes)
        return header

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError("the host hung up")
            data += part
        return data

    def __enter__(self) -> RawWire:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()


@pytest.fixture
def raw_wire() -> type[RawWire]:
    """Speak to a host by hand."""
    return RawWire


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process has ended."""

    def has_ended(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"

    return has_ended


@pytest.fixture(scope="session")
def go_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs in Go that tests use: driver and verdict. Skips where there is no Go.

    What is compiled is kept between runs, and shared with the hosts that tests start.
    """
    try:
        toolchain = find_toolchain()
    except FailedPrecondition as error:
        pytest.skip(error.message)
    os.environ.setdefault("GOCACHE", f"{tempfile.gettempdir()}/smol-go-build-{os.getuid()}")
    directory = tmp_path_factory.mktemp("go")
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOPROXY": "off", "CGO_ENABLED": "0"}
    subprocess.run(
        [toolchain.go, "build", *FLAGS, "-o", f"{directory}/", "./internal/...", "./cmd/files"],
        cwd=sdk_directory(), env=environ, check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    return directory


class Driver:
    """A client in Go: each command is a process of its own that answers with JSON."""

    def __init__(self, program: Path, socket_path: Path) -> None:
        self._program = program
        self._environ = {**os.environ, "SMOL_SOCKET": str(socket_path)}

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [str(self._program), *map(str, arguments)]
        return subprocess.Popen(command, env=self._environ, stdout=subprocess.PIPE)

    def __call__(self, *arguments: object) -> dict[str, Any]:
        with self.start(*arguments) as process:
            output, _ = process.communicate(timeout=120)
        answer: dict[str, Any] = json.loads(output)
        return answer


@pytest.fixture
def driver(go_tools: Path) -> Callable[[Path], Driver]:
    """Make a client in Go for a host's socket."""
    return lambda socket_path: Driver(go_tools / "driver", socket_path)
