"""What the governor costs, and what it is good for: its share of a call, of an idle processor, swaps, neighbours.

`python -m benchmarks.memory cycles [COUNT] [CALLS]` loads and unloads a worker over and over instead, and shows
what that leaves behind in the host and the zygote.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import smol
from benchmarks.report import Figure, median
from smol.client import BlockingClient
from smol.errors import SmolError
from smol.policy.governor import Governor
from smol.policy.workers import Ask, Worker
from smol.sizes import MIB

__all__ = ["measure"]

UNITS = Path(__file__).parents[1] / "tests" / "fixtures" / "units"
EXPRESSION = {"expression": "2/3 + 1e-30"}
IDLE_SECONDS = 20.0


def measure() -> list[Figure]:
    """Figures of the governor."""
    return [*measure_overhead(), *measure_swaps(), *measure_neighbours()]


def host(home: str, **settings: str) -> Any:
    return smol.local({"SMOL_HOME": home, "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS), **settings})


def measure_overhead() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as home, host(home) as client:
        shares = []
        client.call("math.evaluate", EXPRESSION)
        for _ in range(7):
            call_us = 1e6 * _seconds_each(lambda: client.call("math.evaluate", EXPRESSION), 300)
            shares.append(100 * _governor_us() / call_us)
        yield Figure("governor's share of a warm math.evaluate", median(shares), "%", 3)
        pid = client.call("lifecycle.status")["pid"]
        before = _cpu_seconds(pid)
        time.sleep(IDLE_SECONDS)
        share = 100 * (_cpu_seconds(pid) - before) / IDLE_SECONDS
        yield Figure("host's processor time while idle, measuring included", share, "%", 0.5)


def _governor_us() -> float:
    """Microseconds that a warm call spends in the governor."""
    governor = Governor(2048 * MIB)
    governor.declare(Worker("math", MIB))
    governor.ask(Ask("start", 1e9, "math"), 0.0)
    governor.loaded("start", 0.0)
    governor.finished("start", 0.0)
    numbers = iter(range(1_000_000))

    def call() -> None:
        ticket = f"math/{next(numbers)}"
        now = time.monotonic()
        governor.takes_calls("math")
        governor.enter(ticket, "math", now)
        governor.finished(ticket, now)

    return 1e6 * _seconds_each(call, 5000)


def _seconds_each(call: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure_swaps() -> Iterator[Figure]:
    """Two workers that do not fit together, called in turn by eight clients: first come, first served would swap
    for every call but the first.
    """
    count = 100
    with tempfile.TemporaryDirectory() as home, host(home, SMOL_HOST_BUDGET="210MiB") as client:
        names = ["swap_a.work", "swap_b.work"] * (count // 2)
        calls = client.within(55)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: calls.call(name, {"seconds": 0.02}), names))
        found = client.call("memory.explain", {"limit": 512})
        swaps = sum(entry["decision"] == "evict" for entry in found)
        yield Figure("swaps in 100 calls for two in turn", swaps, "", count / 2, note="in order of arrival: 99")


def measure_neighbours() -> Iterator[Figure]:
    """p99 of a small call beside a unit that takes all the memory it can, over p99 without."""
    with tempfile.TemporaryDirectory() as home, host(home, SMOL_HOST_BUDGET="512MiB") as client:
        for name, call in (
            ("allocates 4 GiB", ("hog.take", {"mib": 4096})),
            ("forks 500 children", ("hog.breed", {"count": 500, "mib": 4, "seconds": 3})),
            ("maps and changes 2 GiB", ("hog.map_file", {"mib": 2048})),
            ("fills 2 GiB of shared memory", ("hog.fill_shared", {"mib": 2048})),
        ):
            client.call("math.evaluate", EXPRESSION)
            alone = _p99_ms(client, 4.0)
            stop = threading.Event()
            hog = threading.Thread(target=_repeat, args=(client, call, stop))
            hog.start()
            try:
                beside = _p99_ms(client, 4.0)
            finally:
                stop.set()
                hog.join()
            note = f"{alone:.1f} ms alone, {beside:.1f} ms beside"
            yield Figure(f"p99 of math.evaluate beside one that {name}", beside / alone, "x", 3, note=note)


def _repeat(client: BlockingClient, call: tuple[str, dict[str, Any]], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            client.call(*call)
        except SmolError:
            time.sleep(0.05)


def _p99_ms(client: BlockingClient, seconds: float) -> float:
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        answer: Any = client.call("math.evaluate", EXPRESSION)
        took.append(1000 * (time.perf_counter() - began))
        if not answer["decimal"].startswith("0.6666"):
            raise AssertionError(f"a wrong answer: {answer}")
    return statistics.quantiles(took, n=100)[-1]


def cycles(count: int, calls: int) -> int:
    """Load and unload `count` times, and make `calls` calls. Returns 1 when host or zygote grew by over 2 MiB."""
    with tempfile.TemporaryDirectory() as home, host(home) as client:
        _cycle(client, 200, 2000)
        before = _sizes(client)
        _cycle(client, count, calls)
        after = _sizes(client)
        for name, size in after.items():
            print(f"{name}: {before[name] / MIB:.2f} MiB before, {size / MIB:.2f} MiB after")
        return int(any(size - before[name] > 2 * MIB for name, size in after.items()))


def _cycle(client: BlockingClient, count: int, calls: int) -> None:
    for _ in range(count):
        client.call("hog.load", {"model": "m", "mib": 1})
        client.call("memory.trim", {"unload": True})
    for _ in range(calls):
        client.call("math.evaluate", EXPRESSION)


def _sizes(client: BlockingClient) -> dict[str, int]:
    client.call("memory.trim", {"unload": True})
    processes = client.call("lifecycle.processes")
    return {entry["name"]: entry["pss_bytes"] for entry in processes if entry["name"] in ("host", "zygote")}


if __name__ == "__main__":
    if sys.argv[1:2] == ["cycles"]:
        counts = [int(word) for word in sys.argv[2:]] + [20_000, 100_000][len(sys.argv) - 2 :]
        sys.exit(cycles(*counts))
    sys.exit(f"{__doc__}")
