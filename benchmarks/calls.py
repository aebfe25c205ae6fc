"""Round trips of a small call: client → host → worker → client, beside one hop of grpc.aio."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import grpc
import msgspec
import uvloop

import smol
from benchmarks.footprint import small_units
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
    with small_units() as settings:
        address = f"unix:{settings['SMOL_HOME']}/grpc.sock"
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve_grpc, args=(address, theirs))
        server.start()
        ours.recv()
        try:
            async with smol.local(settings) as s, grpc.aio.insecure_channel(address) as channel:
                remote = channel.unary_unary(METHOD)
                return await _alternate(
                    lambda: s.call("math.evaluate", ARGUMENTS),
                    lambda: s.call("small0.echo", {"text": "x" * 100}),
                    lambda: remote(PAYLOAD),
                )
        finally:
            server.terminate()
            server.join()


Call = Callable[[], Awaitable[object]]


async def _alternate(math: Call, echo: Call, peer: Call) -> list[Figure]:
    figures = []
    for in_flight, target in ((1, 3.0), (64, 5.0)):
        rounds = []
        for number in range(ROUNDS + 1):
            rates = [await _rate(call, in_flight, ROUND_SECONDS) for call in (math, echo, peer)]
            if number:  # The first one warms up.
                rounds.append(rates)
        rates = [median([entry[i] for entry in rounds]) for i in range(3)]
        ratio = median([entry[0] / entry[2] for entry in rounds])
        figures += [
            Figure(f"math.evaluate, {in_flight} in flight", rates[0], "/s"),
            Figure(f"an echo unit, {in_flight} in flight", rates[1], "/s"),
            Figure(f"grpc.aio echo, {in_flight} in flight", rates[2], "/s"),
            Figure(f"math.evaluate to grpc.aio, {in_flight} in flight", ratio, "x", target, at_least=True),
        ]
    return figures


async def _rate(call: Call, in_flight: int, seconds: float) -> float:
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
