"""Calls in bulk: places, queues, streams, limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import smol
from smol.client import Client
from smol.errors import ResourceExhausted

UNITS = Path(__file__).parents[1] / "fixtures" / "units"
MIB = 1 << 20


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"SMOL_HOME": str(tmp_path), "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS)}


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


async def test_a_cancelled_call_frees_its_place(settings: dict[str, str]) -> None:
    async with smol.local(settings) as s:
        for _ in range(12):  # More than the unit takes at once, and than may wait.
            call = asyncio.ensure_future(s.probe.sleep(30))
            await asyncio.sleep(0.02)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        assert await s.probe.echo("x") == "x"
        busy = [entry for entry in await s.lifecycle.processes() if entry["name"] == "probe"]
        assert [entry["calls"] for entry in busy] == [0]


async def test_a_busy_unit_lets_some_wait_and_refuses_the_rest(settings: dict[str, str]) -> None:
    async with smol.local(settings) as s:
        calls = [asyncio.ensure_future(s.probe.sleep(0.3)) for _ in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, ResourceExhausted)]
        assert results.count("slept") == 4 + 8
        assert len(refused) == 8
        assert all(error.details["retry_after_ms"] >= 50 for error in refused)


async def test_streams_and_events_flow_and_end(settings: dict[str, str]) -> None:
    async with smol.local(settings) as s:
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
