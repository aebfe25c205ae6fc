"""HTTP: `math.evaluate` beside a bare echo of JSON, what HTTP adds to a picture, memory with idle streams, faults.

The client is the same for both, in this process, over Unix sockets with keep-alive; what it costs itself is
part of both sides of each ratio.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from PIL import Image

import smol
from benchmarks.report import Figure, median
from benchmarks.serving.faults import UNITS, measure_faults

__all__ = ["measure"]

CONNECTIONS = 16
ROUNDS = 5
ROUND_SECONDS = 1.0
PICTURES = 60
STREAMS = 200
EXPRESSION = msgspec.json.encode({"expression": "2/3 + 1e-30"})


def measure() -> list[Figure]:
    """Requests per second, milliseconds and bytes."""
    if sys.platform != "linux":
        return []
    with tempfile.TemporaryDirectory() as directory, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # A gateway that was killed comes back at the same port.
        settings = {
            "SMOL_HOME": directory,
            "SMOL_GATEWAY_LISTEN": f"127.0.0.1:{listener.getsockname()[1]}",
            "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS),
        }
        listener.close()
        with smol.local(settings) as s:
            faults = measure_faults(s)
    return [*uvloop.run(_measure()), *faults]


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        settings = {"SMOL_HOME": directory, "SMOL_GATEWAY_LISTEN": "127.0.0.1:0"}
        async with smol.local(settings) as s, _bare(f"{directory}/bare.sock") as bare:
            ours = str((await s.gateway.address())["socket"])
            return [
                *await _rates(ours, bare),
                *await _added_to_pictures(s, ours),
                *await _memory(s, ours),
            ]


async def _rates(ours: str, bare: str) -> list[Figure]:
    request = _request("/v1/units/math/evaluate", EXPRESSION)
    echo = _request("/echo", EXPRESSION)
    await _rate(ours, request, 0.3)
    await _rate(bare, echo, 0.3)
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(await _rate(ours, request, ROUND_SECONDS))
        theirs.append(await _rate(bare, echo, ROUND_SECONDS))
    ratio = median([one / other for one, other in zip(mine, theirs, strict=True)])
    return [
        Figure("math.evaluate over HTTP, 16 connections", median(mine), "requests/s"),
        Figure("bare Starlette, JSON echo", median(theirs), "requests/s"),
        Figure("ratio", ratio, "×", 0.5, at_least=True),
    ]


async def _added_to_pictures(s: Any, ours: str) -> list[Figure]:
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    Image.fromarray(noise).save(picture, "JPEG", quality=90)
    data = picture.getvalue()
    operation = "detect.image"
    try:
        await s.call(operation, {"image": data})
    except smol.errors.Unavailable:
        operation = "classify.image"  # The network that comes with the package.
        await s.call(operation, {"image": data})
    head = b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    path = f"/v1/units/{operation.replace('.', '/')}"
    request = _request(path, head + data + b"\r\n--X--\r\n", "multipart/form-data; boundary=X")
    direct, http = [], []
    reader, writer = await asyncio.open_unix_connection(ours)
    for _ in range(PICTURES):
        started = time.perf_counter()
        await s.call(operation, {"image": data})
        direct.append(time.perf_counter() - started)
        started = time.perf_counter()
        await _exchange(reader, writer, request)
        http.append(time.perf_counter() - started)
    writer.close()
    added_ms = (median(http) - median(direct)) * 1000
    return [Figure(f"added by HTTP to {operation}, p50", added_ms, "ms", 3.0)]


async def _memory(s: Any, ours: str) -> list[Figure]:
    idle = await _gateway_mib(s)
    connections = []
    for _ in range(STREAMS):
        reader, writer = await asyncio.open_unix_connection(ours)
        writer.write(b"GET /v1/units/host/events/unit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connections.append((reader, writer))
    for reader, _ in connections:
        await reader.readuntil(b"\r\n\r\n")
    streaming = await _gateway_mib(s)
    request = _request("/v1/units/math/evaluate", EXPRESSION)
    await _rate(ours, request, ROUND_SECONDS, 32)
    loaded = await _gateway_mib(s)
    for _, writer in connections:
        writer.close()
    return [
        Figure("gateway, idle (PSS)", idle, "MiB"),
        Figure(f"gateway, {STREAMS} idle streams (PSS)", streaming, "MiB"),
        Figure(f"gateway, {STREAMS} idle streams, after 32 busy clients (PSS)", loaded, "MiB", 70.0),
    ]


async def _gateway_mib(s: Any) -> float:
    processes = await s.lifecycle.processes()
    found = next(entry["pss_bytes"] for entry in processes if entry["name"] == "gateway")
    return float(found) / 2**20


async def _rate(path: str, request: bytes, seconds: float, connections: int = CONNECTIONS) -> float:
    """Requests per second."""
    ends = time.perf_counter() + seconds

    async def client() -> int:
        reader, writer = await asyncio.open_unix_connection(path)
        count = 0
        while time.perf_counter() < ends:
            await _exchange(reader, writer, request)
            count += 1
        writer.close()
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*(client() for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - started)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    start = head.lower().index(b"content-length:") + 15
    await reader.readexactly(int(head[start : head.index(b"\r", start)]))


def _request(path: str, body: bytes, media_type: str = "application/json") -> bytes:
    fields = ["Host: localhost", f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def _bare(socket: str) -> AsyncIterator[str]:
    command: Sequence[str] = (sys.executable, str(Path(__file__).with_name("bare.py")), socket)
    process = subprocess.Popen(command)  # noqa: ASYNC220  (a server beside the measurement)
    try:
        while not Path(socket).exists():
            await asyncio.sleep(0.05)
        yield socket
    finally:
        process.terminate()
        process.wait()
