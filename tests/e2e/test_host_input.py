"""Whatever a caller sends: it gets a clear error, and the host and its other callers are unharmed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from smol.client import BlockingClient
from smol.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, ResourceExhausted, SmolError
from smol.types import Attachment

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("operation", "arguments", "kind", "told"),
    [
        ("prob.echo", {"text": "x"}, NotFound, "did you mean 'probe'"),
        ("probe.ecko", {"text": "x"}, NotFound, "did you mean 'probe.echo'"),
        ("probe.echo", {"txt": "x"}, InvalidArgument, "text"),
        ("probe.echo", {}, InvalidArgument, "text"),
        ("probe.echo", {"text": 5}, InvalidArgument, "text"),
        ("probe.sleep", {"seconds": "long"}, InvalidArgument, "seconds"),
        ("probe.echo", ["x"], InvalidArgument, "object"),
        ("echo", {}, InvalidArgument, "unit.operation"),
        ("probe.", {}, InvalidArgument, "unit.operation"),
        ("probe.count", {"items": 1}, InvalidArgument, "stream"),
        ("probe.reverse", {"data": {"$attachment": 7}}, InvalidArgument, "attachment"),
        ("probe.fail", {}, FailedPrecondition, "told to fail"),
        ("probe.fail", {"how": "bug"}, Internal, "ZeroDivisionError"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(
    shared_host: BlockingClient, operation: str, arguments: Any, kind: type[SmolError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        shared_host.call(operation, arguments)
    assert shared_host.call("probe.echo", {"text": "well"}) == "well"


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One host for many wrong calls."""
    import smol

    home = tmp_path_factory.mktemp("home")
    units = Path(__file__).parents[1] / "fixtures" / "units"
    with smol.local({"SMOL_HOST_UNIT_DIRECTORIES": str(units), "SMOL_HOME": str(home)}) as client:
        yield client


def _memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_body_over_the_limit_fails_its_call_alone(shared_host: BlockingClient, raw_wire: Any) -> None:
    status: Any = shared_host.call("lifecycle.status")
    with pytest.raises(ResourceExhausted, match="67108864"):
        shared_host.call("probe.reverse", {"data": Attachment(bytearray(65 << 20))})
    before = _memory_bytes(status["pid"])
    body = bytes(65 << 20)
    call = {"type": "call", "id": 1, "operation": "probe.reverse", "attachments": [{"bytes": len(body)}]}
    with raw_wire(status["socket"]) as wire:
        wire.greet()
        wire.socket.sendall(wire.frame({**call, "arguments": {"data": {"$attachment": 0}}}, body))
        assert wire.receive()["code"] == "RESOURCE_EXHAUSTED"
        wire.socket.sendall(wire.frame({"type": "ping", "nonce": 3}))
        assert wire.receive() == {"type": "pong", "nonce": 3}
    assert _memory_bytes(status["pid"]) - before < 8 << 20


def test_a_large_body_comes_back_whole(shared_host: BlockingClient) -> None:
    data = bytes(range(256)) * (80 << 10)
    answer: Any = shared_host.call("probe.reverse", {"data": Attachment(data)})
    assert bytes(answer.data) == data[::-1]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * (1 << 20),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * (1 << 15),
        struct.pack(">II", 0, 0) * (1 << 17),
        struct.pack(">II", 1 << 20, 0) + b"[" * (1 << 20),
        struct.pack(">II", 1 << 20, 0) + b'{"type":"call",' + b'"a":{' * (1 << 18),
        struct.pack(">II", 2, (1 << 32) - 1) + b"{}" + bytes(1 << 20),
        struct.pack(">II", (1 << 32) - 1, (1 << 32) - 1) + bytes(1 << 20),
    ],
    ids=["ones", "http", "empty headers", "deep json", "deep fields", "endless body", "endless header"],
)
def test_a_hundred_megabytes_of_garbage_do_no_harm(
    shared_host: BlockingClient, raw_wire: Any, garbage: bytes
) -> None:
    status: Any = shared_host.call("lifecycle.status")
    before = _memory_bytes(status["pid"])
    with raw_wire(status["socket"]) as wire:
        sent = 0
        try:
            while sent < 100_000_000:
                wire.socket.sendall(garbage)
                sent += len(garbage)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The host has hung up, as it should.
        assert shared_host.call("probe.echo", {"text": "well"}) == "well"
    assert _memory_bytes(status["pid"]) - before < 16 << 20
    assert shared_host.call("probe.echo", {"text": "still"}) == "still"


def test_a_call_with_an_argument_nested_too_deep_is_refused(shared_host: BlockingClient, raw_wire: Any) -> None:
    status: Any = shared_host.call("lifecycle.status")
    deep = b"[" * 100_000 + b"]" * 100_000
    header = b'{"type":"call","id":1,"operation":"probe.echo","arguments":{"text":' + deep + b"}}"
    with raw_wire(status["socket"]) as wire:
        wire.greet()
        wire.socket.sendall(struct.pack(">II", len(header), 0) + header)
        answer = wire.receive()
    assert answer["code"] == "INVALID_ARGUMENT"
    assert shared_host.call("probe.echo", {"text": "well"}) == "well"


def test_connections_beyond_the_limit_are_told_so(start: Any, raw_wire: Any) -> None:
    with start(SMOL_HOST_CONNECTIONS="3") as client:
        path = client.call("lifecycle.status")["socket"]
        with raw_wire(path) as one, raw_wire(path) as two:
            assert [one.greet()["type"], two.greet()["type"]] == ["welcome", "welcome"]
            with raw_wire(path) as three:
                assert three.greet()["code"] == "RESOURCE_EXHAUSTED"
        assert client.call("probe.echo", {"text": "well"}) == "well"


def test_a_caller_that_reads_nothing_loses_its_stream_not_the_host(start: Any, raw_wire: Any) -> None:
    with start() as client:
        status: Any = client.call("lifecycle.status")
        before = _memory_bytes(status["pid"])
        with raw_wire(status["socket"]) as wire:
            wire.greet()
            for number in range(1, 5):
                call = {"type": "call", "id": number, "operation": "probe.count", "credit": 2**31 - 1}
                wire.socket.sendall(wire.frame({**call, "arguments": {"items": 10_000_000}, "budget_ms": 1500}))
            assert client.call("probe.echo", {"text": "well"}) == "well"
            errors: set[int] = set()
            while len(errors) < 4:
                answer = wire.receive()
                if answer["type"] == "error":
                    errors.add(answer["id"])
        assert _memory_bytes(status["pid"]) - before < 160 << 20
        assert client.call("probe.echo", {"text": "well"}) == "well"
