"""What goes wrong over HTTP, and for how long: clients that hang up or are slow, a gateway that is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.report import Figure, median
from smol.client import BlockingClient

__all__ = ["UNITS", "measure_faults"]

UNITS = Path(__file__).parents[2] / "tests" / "fixtures" / "units"
"""Units for tests; `probe` counts which of its calls were cancelled."""
ROUNDS = 15
SLOW_CLIENTS = 500


def measure_faults(s: BlockingClient) -> list[Figure]:
    """Milliseconds, each the median of several rounds but for those of a kill, of which the worst counts."""
    port = _port(s)
    s.probe.cancelled()
    stream = [_hang_up(s, port, "count", {"items": 10**6, "pause_seconds": 0.01}) for _ in range(ROUNDS)]
    unary = [_hang_up(s, port, "sleep", {"seconds": 1000}) for _ in range(ROUNDS)]
    alone, crowded = _slow_clients(port)
    back = [_kill(s, port) for _ in range(5)]
    return [
        Figure("a stream's client hangs up: its work has stopped after", median(stream), "ms", 100.0),
        Figure("a call's client hangs up: its work has stopped after", median(unary), "ms", 100.0),
        Figure("math.evaluate on a new connection, p99", alone, "ms"),
        Figure(f"the same beside {SLOW_CLIENTS} clients that send their headers slowly", crowded, "ms"),
        Figure("kill -9 of the gateway: it answers again after, at worst", max(back), "ms", 1000.0),
    ]


def _port(s: BlockingClient) -> int:
    return int(re.findall(r":(\d+)", s.gateway.address()["url"])[-1])


def _hang_up(s: BlockingClient, port: int, operation: str, arguments: dict[str, Any]) -> float:
    before = s.probe.cancelled()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_post(f"probe/{operation}", arguments))
        while not any(entry["name"] == "probe" and entry["calls"] for entry in s.lifecycle.processes()):
            pass
        started = time.perf_counter()
    while s.probe.cancelled() == before:
        pass
    return (time.perf_counter() - started) * 1000


def _slow_clients(port: int) -> tuple[float, float]:
    """p99 without and with them, in turns."""
    alone, crowded = [], []
    for _ in range(5):
        alone += [_evaluate(port) for _ in range(20)]
        with contextlib.ExitStack() as stack:
            slow = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(SLOW_CLIENTS)
            ]
            for connection in slow:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
            crowded += [_evaluate(port) for _ in range(20)]
    return sorted(alone)[-2], sorted(crowded)[-2]


def _kill(s: BlockingClient, port: int) -> float:
    pid = next(entry["pid"] for entry in s.lifecycle.processes() if entry["name"] == "gateway")
    os.kill(pid, signal.SIGKILL)
    started = time.perf_counter()
    while True:
        with contextlib.suppress(OSError):
            _evaluate(port)
            return (time.perf_counter() - started) * 1000
        time.sleep(0.005)


def _evaluate(port: int) -> float:
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_post("math/evaluate", {"expression": "6*7"}))
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise OSError("no answer")
    return (time.perf_counter() - started) * 1000


def _post(path: str, arguments: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(arguments)
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST /v1/units/{path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body
