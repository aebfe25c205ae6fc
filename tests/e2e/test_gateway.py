"""The gateway as it runs: sockets, slow and sudden clients, keys, crashes and the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.errors import Unavailable
from tests.e2e.waiting import port_of, wait_for

TWO_LENGTHS = (
    b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture
def served(serve: Any) -> Iterator[Any]:
    with serve() as host:
        yield host


def post(port: int, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def evaluate(port: int, **headers: str) -> int:
    return post(port, "/v1/units/math/evaluate", {"expression": "6*7"}, **headers)[0]


def metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return float(re.findall(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)[0])


def raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        parts = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                parts += part
        return parts


def test_it_prints_its_address_and_answers_there_and_on_its_unix_socket(served: Any) -> None:
    port = port_of(served)
    assert post(port, "/v1/units/math/evaluate", {"expression": "6*7"})[1]["exact"] == "42"
    path = served.socket.with_name("http.sock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: any.name\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_picture_is_refused_with_a_status_when_it_is_none(served: Any) -> None:
    body = b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\nnonsense\r\n--X--\r\n'
    connection = http.client.HTTPConnection("127.0.0.1", port_of(served), timeout=30)
    with contextlib.closing(connection):
        headers = {"content-type": "multipart/form-data; boundary=X"}
        connection.request("POST", "/v1/units/classify/image", body, headers)
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (TWO_LENGTHS, 400),
    ],
)
def test_requests_that_are_none_are_refused_in_our_words(served: Any, request_bytes: bytes, status: int) -> None:
    answer = raw(port_of(served), request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in answer


def test_slow_headers_are_cut_and_stop_nobody(serve: Any) -> None:
    with serve(SMOL_GATEWAY_HEADER_SECONDS="1") as host, contextlib.ExitStack() as stack:
        port = port_of(host)
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert evaluate(port) == 200
        for connection in slow:
            connection.settimeout(20)
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_client_that_hangs_up_ends_the_work(served: Any) -> None:
    port = port_of(served)
    assert post(port, "/v1/units/storage/put", {"key": "a", "value": 1})[0] == 200
    with socket.create_connection(("127.0.0.1", port)) as connection:
        body = b'{"collection":"default"}'
        head = b"POST /v1/units/storage/watch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with smol.connect(served.socket) as client:
            busy = wait_for(
                lambda: next(e for e in client.lifecycle.processes() if e["name"] == "storage")["calls"]
            )
            assert busy == 1
    with smol.connect(served.socket) as client:
        wait_for(lambda: next(e for e in client.lifecycle.processes() if e["name"] == "storage")["calls"] == 0)
    wait_for(lambda: metric(port, "smol_http_in_flight") == 1)


def test_two_hundred_idle_streams_leave_room_for_others(served: Any) -> None:
    port = port_of(served)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for connection in streams:
            connection.sendall(b"GET /v1/units/host/events/unit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for connection in streams:
            connection.settimeout(30)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with ThreadPoolExecutor(32) as threads:
            assert set(threads.map(lambda _: evaluate(port), range(64))) == {200}


def test_a_killed_gateway_is_back_and_nobody_else_noticed(served: Any) -> None:
    first = port_of(served)
    assert evaluate(first) == 200
    with smol.connect(served.socket) as client:
        before = {entry["name"]: entry["pid"] for entry in client.lifecycle.processes()}
        os.kill(before["gateway"], signal.SIGKILL)
        wait_for(lambda: served.log.count("open http://") == 2)
        after = {entry["name"]: entry["pid"] for entry in client.lifecycle.processes()}
    assert after["gateway"] != before["gateway"]
    assert after["math"] == before["math"]
    assert evaluate(port_of(served)) == 200


def test_a_key_made_on_the_command_line_is_asked_for_at_once(served: Any, tmp_path: Path) -> None:
    port = port_of(served)
    assert evaluate(port) == 200
    environ = {**os.environ, "SMOL_HOME": str(tmp_path / "home")}

    def command(*arguments: str) -> str:
        run = subprocess.run([sys.executable, "-m", "smol.cli.main", "key", *arguments], env=environ,
                             capture_output=True, check=True, text=True)  # fmt: skip
        return run.stdout.strip()

    secret = command("create", "--name", "phone", "--allow", "math.*")
    assert evaluate(port) == 401
    assert evaluate(port, authorization=f"Bearer {secret}") == 200
    assert post(port, "/v1/units/lifecycle/units", {}, authorization=f"Bearer {secret}")[0] == 403
    assert "phone" in command("list")
    assert secret not in command("list") + served.log
    command("revoke", "phone")
    assert evaluate(port) == 200


def test_an_open_address_without_a_key_keeps_the_host_from_starting(tmp_path: Path) -> None:
    environ = {**os.environ, "SMOL_HOME": str(tmp_path), "SMOL_GATEWAY_LISTEN": "0.0.0.0:0"}
    run = subprocess.run(
        [sys.executable, "-m", "smol.cli.main", "serve"], env=environ, capture_output=True, text=True
    )
    assert run.returncode == 5
    assert "smol key create" in run.stderr


def test_a_private_host_does_its_work_whatever_the_gateway_would_listen_at(start: Any) -> None:
    with start(SMOL_GATEWAY_LISTEN="0.0.0.0:0") as client:
        assert client.math.evaluate("6*7")["exact"] == "42"
        with pytest.raises(Unavailable, match="smol key create"):
            client.gateway.address()


def test_an_address_that_is_taken_is_named_and_the_host_serves_on(serve: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serve(SMOL_GATEWAY_LISTEN=f"127.0.0.1:{port}") as host:
            wait_for(lambda: f"can't listen at 127.0.0.1:{port}" in host.log)
            with smol.connect(host.socket) as client:
                assert client.math.evaluate("6*7")["exact"] == "42"


def test_a_stream_ends_in_good_order_when_the_host_stops(served: Any) -> None:
    port = port_of(served)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = b"POST /v1/units/storage/watch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 2\r\n\r\n{}")
        received = connection.recv(100)
        assert received.startswith(b"HTTP/1.1 200")
        os.kill(served.pid, signal.SIGTERM)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
    assert b"event: error" in received
    assert served.process.wait(30) == 0
    assert not served.socket.with_name("http.sock").exists()


def test_a_private_host_listens_for_nobody_until_it_is_asked(start: Any) -> None:
    with start() as client:
        entry = next(e for e in client.lifecycle.processes() if e["name"] == "gateway")
        assert entry["state"] == "declared"
        url = client.gateway.address()["url"]
        assert evaluate(int(url.rpartition(":")[2])) == 200


def test_the_page_for_prometheus_tells_what_the_sandbox_counts_once_it_runs(served: Any) -> None:
    port = port_of(served)
    status, run = post(port, "/v1/units/code/run", {"source": "1 / 0"})
    if status != 200:
        pytest.skip(run["detail"])
    post(port, "/v1/units/code/run", {"source": "6 * 7"})
    assert metric(port, 'smol_code_runs_total{verdict="ok"}') == 1
    assert metric(port, 'smol_code_runs_total{verdict="error"}') == 1
    assert metric(port, f'smol_code_tier{{tier="{run["isolation"]["tier"]}"}}') == 1
    assert metric(port, 'smol_code_layer{layer="seccomp"}') == 1
    assert metric(port, "smol_code_running") == metric(port, "smol_code_waiting") == 0
    wait_for(lambda: metric(port, "smol_code_warm") >= 1)
