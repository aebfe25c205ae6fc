"""The gateway under many clients, slow ones and rude ones: bounds hold, and nobody waits for somebody else.

Bounds of time are generous here; `benchmarks/serving` measures.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import smol
from tests.e2e.waiting import port_of, wait_for

MIB = 2**20
GATEWAY_MIB = 70
PATIENCE_SECONDS = 20.0
JSON = b"Host: localhost\r\nContent-Type: application/json\r\n"


def evaluate(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        body = json.dumps({"expression": "6*7"})
        connection.request("POST", "/v1/units/math/evaluate", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def gateway_bytes(host: Any) -> int:
    with smol.connect(host.socket) as client:
        processes: list[dict[str, Any]] = client.lifecycle.processes()
    return next(int(entry["pss_bytes"]) for entry in processes if entry["name"] == "gateway")


@pytest.fixture
def crowd() -> Iterator[Any]:
    """Connections that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda port, count: [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS))
            for _ in range(count)
        ]


def test_two_hundred_idle_streams_and_busy_clients_fit_in_memory(serve: Any, crowd: Any) -> None:
    with serve() as host:
        port = port_of(host)
        streams = crowd(port, 200)
        for connection in streams:
            connection.sendall(b"GET /v1/units/host/events/unit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for connection in streams:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with ThreadPoolExecutor(32) as threads:
            assert set(threads.map(lambda _: evaluate(port), range(320))) == {200}
        assert gateway_bytes(host) < GATEWAY_MIB * MIB


def test_five_hundred_slow_clients_stop_nobody(serve: Any, crowd: Any) -> None:
    with serve(SMOL_GATEWAY_HEADER_SECONDS="3") as host:
        port = port_of(host)
        slow = crowd(port, 500)
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        for byte in b"alho":
            assert evaluate(port) == 200
            for connection in slow:
                with contextlib.suppress(OSError):  # Its time may be up already.
                    connection.sendall(bytes([byte]))
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        assert evaluate(port) == 200
        assert gateway_bytes(host) < GATEWAY_MIB * MIB


def test_uploads_that_trickle_hold_no_more_than_they_may(serve: Any, crowd: Any) -> None:
    """Forty clients at a mebibyte a second, each within what one may send, together beyond what all may."""
    with serve(SMOL_GATEWAY_MAX_HELD="8MiB", SMOL_GATEWAY_MAX_BODY="4MiB", SMOL_GATEWAY_BODY_SECONDS="5") as host:
        port = port_of(host)
        assert evaluate(port) == 200
        before = gateway_bytes(host)
        uploads = crowd(port, 40)
        over = threading.Event()

        def trickle() -> None:
            piece = b" " * (MIB // 16)
            while not over.wait(1 / 16):
                for connection in uploads:
                    with contextlib.suppress(OSError):
                        connection.send(piece, socket.MSG_DONTWAIT)

        for connection in uploads:
            connection.sendall(b"POST /v1/units/math/evaluate HTTP/1.1\r\n" + JSON)
            connection.sendall(b"Content-Length: %d\r\n\r\n" % (4 * MIB))
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            most = 0
            for _ in range(10):
                assert evaluate(port) in (200, 429)
                most = max(most, gateway_bytes(host))
                time.sleep(0.1)
        finally:
            over.set()
            thread.join()
        refused = 0
        for connection in uploads:
            with contextlib.suppress(ConnectionResetError):
                refused += connection.recv(100).startswith((b"HTTP/1.1 429", b"HTTP/1.1 408"))
        assert refused > 20
        assert most - before < (8 + 24) * MIB
        wait_for(lambda: evaluate(port) == 200)


FORM_START = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
FORM_END = b"\r\n--X--\r\n"


def begin_upload(connection: socket.socket, length: int, path: str = "/v1/files") -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % length + FORM_START)


def test_large_files_are_not_held_in_memory(serve: Any, crowd: Any) -> None:
    """Eight clients with 31 MiB each, in turns of a mebibyte."""
    piece, times = b"x" * MIB, 31
    with serve() as host:
        port = port_of(host)
        uploads = crowd(port, 8)
        before = gateway_bytes(host)
        for connection in uploads:
            begin_upload(connection, len(FORM_START) + times * MIB + len(FORM_END))
        most = 0
        for _ in range(times):
            for connection in uploads:
                connection.sendall(piece)
            most = max(most, gateway_bytes(host))
        for connection in uploads:
            connection.sendall(FORM_END)
        for connection in uploads:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert most - before < 24 * MIB


def test_a_large_form_is_held_once_and_not_after_its_call_has_failed(serve: Any, crowd: Any) -> None:
    times = 30
    with serve() as host:
        port = port_of(host)
        (connection,) = crowd(port, 1)
        before = gateway_bytes(host)
        length = len(FORM_START) + times * MIB + len(FORM_END)
        begin_upload(connection, length, "/v1/units/math/evaluate")
        for _ in range(times):
            connection.sendall(b"x" * MIB)
        wait_for(lambda: gateway_bytes(host) - before > (times - 2) * MIB)
        assert gateway_bytes(host) - before < (times + 16) * MIB
        connection.sendall(FORM_END)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
        wait_for(lambda: gateway_bytes(host) - before < 16 * MIB)


def test_a_killed_gateway_leaves_nothing_of_what_was_on_its_way(serve: Any, crowd: Any, tmp_path: Path) -> None:
    with serve() as host:
        (connection,) = crowd(port_of(host), 1)
        begin_upload(connection, 30 * MIB)
        connection.sendall(b"x" * MIB)

        def left() -> list[Path]:
            return list(tmp_path.glob("**/files/*.part"))

        wait_for(lambda: bool(left()))
        with smol.connect(host.socket) as client:
            gateway = next(entry["pid"] for entry in client.lifecycle.processes() if entry["name"] == "gateway")
        os.kill(gateway, signal.SIGKILL)
        wait_for(lambda: not left())


def begin(connection: socket.socket, operation: str, arguments: dict[str, Any]) -> None:
    body = json.dumps(arguments).encode()
    head = f"POST /v1/units/{operation.replace('.', '/')} HTTP/1.1\r\n".encode() + JSON
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [("probe.count", {"items": 10**6, "pause_seconds": 0.01}), ("probe.sleep", {"seconds": 1000})],
)
def test_work_stops_when_its_client_hangs_up(serve: Any, operation: str, arguments: dict[str, Any]) -> None:
    with serve() as host, smol.connect(host.socket) as client:
        port = port_of(host)
        assert client.probe.cancelled() == 0
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
            begin(connection, operation, arguments)
            if operation == "probe.count":
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            wait_for(lambda: [e for e in client.lifecycle.processes() if e["name"] == "probe" and e["calls"] == 1])
        wait_for(lambda: client.probe.cancelled() == 1, 5.0)
        assert evaluate(port) == 200
