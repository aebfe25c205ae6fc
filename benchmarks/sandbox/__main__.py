"""Runs of `print(1)`: warm through the bus, cold, at full load, beside a bare subprocess and bubblewrap.

python -m benchmarks.sandbox [RUNS]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import smol
from benchmarks.report import Figure, show
from smol.client.blocking import BlockingClient

SOURCE = "print(1)"
PAUSE_SECONDS = 0.08
BOMB = "data = []\nwhile True: data.append(bytearray(16 << 20))"


def timed(work: Callable[[], object], runs: int, pause_seconds: float = 0.0) -> list[float]:
    """Sorted milliseconds."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(pause_seconds)
    return sorted(found)


def at(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


def throughput(client: BlockingClient, runs: int, callers: int) -> float:
    """Runs a second, each in a fresh sandbox, with as many callers at once."""

    def call() -> None:
        for _ in range(runs // callers):
            client.code.run(source=SOURCE)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs // callers * callers / (time.perf_counter() - began)


def bubblewrap() -> list[str]:
    return [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
        "--ro-bind", "/usr", "/usr", "--ro-bind", "/lib", "/lib", "--ro-bind", "/lib64", "/lib64",
        "--dev", "/dev", "--tmpfs", "/tmp", "/usr/bin/python3", "-I", "-S", "-c", SOURCE,
    ]  # fmt: skip


def execute(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


def measure(runs: int) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as home, smol.local({"SMOL_HOME": home}) as client:
        tier = client.code.isolation()["tier"]
        warm = timed(lambda: client.code.run(source=SOURCE), runs, PAUSE_SECONDS)
        peak = client.code.run(source=SOURCE)["peak_memory_bytes"]
        bomb = timed(lambda: client.code.run(source=BOMB)["verdict"], 10)
        for language in client.code.languages():
            if language["available"] and language["name"] in ("javascript", "node"):
                name = language["name"]
                found = timed(lambda name=name: client.code.run(source="1 + 1", language=name), 20, PAUSE_SECONDS)
                figures.append(Figure(f"sandbox: run of {name}, median", at(found, 0.5), "ms"))
        figures += [
            Figure("sandbox: warm run through the bus, median", at(warm, 0.5), "ms", 6, note=f"tier {tier}"),
            Figure("sandbox: warm run through the bus, p99", at(warm, 0.99), "ms", 12),
            Figure("sandbox: memory of a warm worker that has run", (peak or 0) / 2**20, "MiB", 8),
            Figure("sandbox: a memory bomb from call to verdict, slowest of 10", max(bomb), "ms", 500),
            Figure("sandbox: runs with refill, 4 callers", throughput(client, runs, 4), "/s", 150, True),
        ]
    with (
        tempfile.TemporaryDirectory() as home,
        smol.local({"SMOL_HOME": home, "SMOL_UNITS__CODE__WARM": "0"}) as client,
    ):
        client.code.isolation()
        cold = timed(lambda: client.code.run(source=SOURCE), runs // 2)
        figures.append(Figure("sandbox: cold run through the bus, median", at(cold, 0.5), "ms", 80))
    python = getattr(sys, "_base_executable", sys.executable)
    bare = timed(execute([python, "-I", "-S", "-c", SOURCE]), runs // 2)
    figures.append(Figure("bare subprocess, python -I -S, no sandbox", at(bare, 0.5), "ms"))
    if shutil.which("bwrap") and Path("/usr/bin/python3").exists():
        wrapped = timed(execute(bubblewrap()), runs // 2)
        figures.append(Figure("bubblewrap + python, namespaces alone", at(wrapped, 0.5), "ms"))
    return figures


def main() -> None:
    figures = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    show("Sandboxed runs of print(1)", figures)


if __name__ == "__main__":
    main()
