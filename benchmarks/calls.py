"""Round trips of a small call: client → host → worker → client, beside one hop of grpc.aio."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import grpc
import msgspec
import uvloop

import smol
from benchmarks.report import Figure, median

__all__ = ["measure"]

ROUNDS = 5
ROUND_SECONDS = 1.0
ARGUMENTS = {"expression": "2/3 + 1e-30"}
PAYLOAD = msgspec.json.encode(ARGUMENTS)
ANSWER = msgspec.json.encode({"exact": "x" * 60, "decimal": "0." + "6" * 50, "type": "rational"})
METHOD = "/bench.Math/Evaluate"


def measure() -> list[Figure]:
    """Round trips per second, and their ratio to grpc.aio's, in rounds that alternate."""
    return uvloop.run(compare()) if sys.platform != "win32" else []


async def compare() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="smol-bench-") as folder:
        address = f"unix:{folder}/grpc.sock"
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve_grpc, args=(address, theirs))
        server.start()
        ours.recv()
        try:
            async with smol.local({"SMOL_HOME": folder}) as s, grpc.aio.insecure_channel(address) as channel:
                remote = channel.unary_unary(METHOD)
                return await _alternate(lambda: s.call("math.evaluate", ARGUMENTS), lambda: remote(PAYLOAD))
        finally:
            server.terminate()
            server.join()


async def _alternate(
    ours: Callable[[], Awaitable[object]], theirs: Callable[[], Awaitable[object]]
) -> list[Figure]:
    figures = []
    for in_flight, target in ((1, 3.0), (64, 5.0)):
        await asyncio.gather(_rate(ours, in_flight, 0.3), _rate(theirs, in_flight, 0.3))
        pairs = [
            (await _rate(ours, in_flight, ROUND_SECONDS), await _rate(theirs, in_flight, ROUND_SECONDS))
            for _ in range(ROUNDS)
        ]
        smol_rate, grpc_rate = (median([pair[i] for pair in pairs]) for i in (0, 1))
        figures += [
            Figure(f"math.evaluate, {in_flight} in flight", smol_rate, "/s"),
            Figure(f"grpc.aio echo, {in_flight} in flight", grpc_rate, "/s"),
            Figure(f"ratio, {in_flight} in flight", median([a / b for a, b in pairs]), "x", target, at_least=True),
        ]
    return figures


async def _rate(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> float:
    """Calls answered per second with so many on their way."""
    count = 0
    end = time.perf_counter() + seconds

    async def keep_calling() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(keep_calling() for _ in range(in_flight)))
    return count / (time.perf_counter() - started)


def serve_grpc(address: str, ready: Connection) -> None:
    """A grpc.aio server that answers with as many bytes as math.evaluate does."""

    async def evaluate(request: bytes, context: object) -> bytes:
        return ANSWER

    async def serve() -> None:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(evaluate)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Math", {"Evaluate": handler}),)
        )
        server.add_insecure_port(address)
        await server.start()
        ready.send(True)
        await server.wait_for_termination()

    asyncio.run(serve())
