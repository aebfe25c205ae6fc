"""Storage beside bare sqlite3, and registers, in one run: `python benchmarks/storage.py [--json FILE]`.

Calls the units' methods directly, so that the wire is not part of it. Bare sqlite3 writes the same JSON into
a table of key and value with WAL and synchronous=FULL: once with a commit for each put (what a program does
that must answer each put), once with 64 puts a commit (the bound that group commit works towards; nobody
waits for the first of the 64). Storage also keeps versions, sizes, quotas and what `watch` needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.store import Migration, Store
from smol.units.registers.unit import Registers
from smol.units.storage.unit import Storage

PUTS = 6_400
SINGLE_PUTS = 1_000
IN_FLIGHT = 64
MIB = 1024**2
CHUNK = bytes(range(256)) * 4096  # 1 MiB
Figures = dict[str, float]


def value(number: int) -> dict[str, object]:
    return {"number": number, "label": "person", "text": "x" * 80}


def context_of(folder: Path) -> Context:
    log = logging.getLogger("benchmark")
    return Context(Environment(unit="storage", log=log, data_dir=folder, cache_dir=folder))


def bare(folder: Path) -> Figures:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE pairs(key TEXT PRIMARY KEY, value TEXT)")

    def put(key: str, number: int) -> None:
        connection.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, json.dumps(value(number))))

    latencies = []
    for number in range(SINGLE_PUTS):
        start = time.perf_counter()
        put(f"single-{number}", number)
        latencies.append(time.perf_counter() - start)
    start = time.perf_counter()
    for number in range(0, PUTS, IN_FLIGHT):
        connection.execute("BEGIN IMMEDIATE")
        for offset in range(IN_FLIGHT):
            put(f"many-{number + offset}", number)
        connection.execute("COMMIT")
    grouped = PUTS / (time.perf_counter() - start)
    connection.close()
    return {
        "bare: median latency of a put, ms": statistics.median(latencies) * 1000,
        "bare: puts/s, a commit each": SINGLE_PUTS / sum(latencies),
        f"bare: puts/s, {IN_FLIGHT} a commit": grouped,
    }


async def rates(name: str, put: Callable[[str, int], Awaitable[object]]) -> Figures:
    """Latency one at a time, and throughput with 64 clients each waiting for its answer."""
    latencies = []
    for number in range(SINGLE_PUTS):
        start = time.perf_counter()
        await put(f"single-{number}", number)
        latencies.append(time.perf_counter() - start)

    async def client(index: int) -> None:
        for number in range(PUTS // IN_FLIGHT):
            await put(f"{index}-{number}", number)

    start = time.perf_counter()
    await asyncio.gather(*(client(index) for index in range(IN_FLIGHT)))
    return {
        f"{name}: median latency, ms": statistics.median(latencies) * 1000,
        f"{name}: calls/s, {IN_FLIGHT} in flight": PUTS / (time.perf_counter() - start),
    }


async def store_figures(folder: Path) -> Figures:
    table = Migration(1, "pairs", "CREATE TABLE pairs(key TEXT PRIMARY KEY, value TEXT)")
    store = Store.open(folder / "store.db", [table])

    async def put(key: str, number: int) -> object:
        arguments = (key, json.dumps(value(number)))
        return await store.write(
            lambda c: c.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", arguments).rowcount
        )

    try:
        return await rates("store.write", put)
    finally:
        store.close()


async def storage_figures(folder: Path) -> Figures:
    storage, context = Storage(), context_of(folder)
    await storage.provision(context)
    try:
        figures = await rates("storage.put", lambda key, number: storage.put(context, key, value(number)))
        figures |= await rates("storage.get", lambda key, _: storage.get(key))
        return figures
    finally:
        await storage.close()


async def vector_figures(folder: Path, count: int = 20_000, dimensions: int = 384) -> Figures:
    import numpy as np

    storage, context = Storage(), context_of(folder)
    await storage.provision(context)
    try:
        vectors = np.random.default_rng(0).standard_normal((count, dimensions)).astype("f4").tolist()
        for start in range(0, count, 64):
            await asyncio.gather(
                *(
                    storage.put(context, str(index), index, vector=vectors[index])
                    for index in range(start, min(count, start + 64))
                )
            )
        await storage.nearest(vectors[0])
        start_time = time.perf_counter()
        for index in range(5):
            await storage.nearest(vectors[index])
        return {f"storage.nearest: ms, {count} x {dimensions}": (time.perf_counter() - start_time) / 5 * 1000}
    finally:
        await storage.close()


async def register_figures() -> Figures:
    registers = Registers()
    start = time.perf_counter()
    for number in range(PUTS):
        await registers.set(f"r{number % 100}", value(number))
        await registers.get(f"r{number % 100}")
    return {"registers: set+get/s, one client": PUTS / (time.perf_counter() - start)}


async def large_figures(folder: Path, size_mib: int) -> Figures:
    """Meant for a process of its own: the peak of PSS is that of all that it ever did."""
    storage, context = Storage(), context_of(folder)
    await storage.provision(context)
    peak = before = pss_mib()
    try:
        token = (await storage.begin_upload()).upload
        start = time.perf_counter()
        for index in range(size_mib):
            chunk = index.to_bytes(4, "big") + CHUNK[4:]
            await storage.append(token, index * MIB, Attachment(chunk))
            peak = max(peak, pss_mib() if index % 16 == 0 else 0)
        await storage.finish_upload(token, "large")
        uploaded = time.perf_counter() - start
        start, received = time.perf_counter(), 0
        async for piece in storage.download("large"):
            received += len(piece)
            peak = max(peak, pss_mib() if received % (16 * MIB) == 0 else 0)
        downloaded = time.perf_counter() - start
        assert received == size_mib * MIB
        await storage.delete(context, "large")
        start = time.perf_counter()
        await storage.sweep()
        swept = time.perf_counter() - start
        peak = max(peak, pss_mib())
    finally:
        await storage.close()
    return {
        f"large: upload of {size_mib} MiB, MiB/s": size_mib / uploaded,
        "large: download, MiB/s": size_mib / downloaded,
        "large: sweep after deleting, s": swept,
        "large: file after it, MiB": (folder / "storage.db").stat().st_size / MIB,
        "large: PSS before, MiB": before,
        "large: peak PSS, MiB": peak,
    }


def pss_mib() -> float:
    """Proportional set size of this process."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/smaps_rollup has no Pss")


async def large_apart(folder: Path, size_mib: int) -> Figures:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--large-in", str(folder), "--large-mib", str(size_mib), stdout=-1
    )
    output, _ = await process.communicate()
    figures: Figures = json.loads(output)
    return figures


def ratios(figures: Figures) -> Figures:
    throughput = figures[f"storage.put: calls/s, {IN_FLIGHT} in flight"]
    return {
        f"puts/s at {IN_FLIGHT} in flight / bare, a commit each": throughput
        / figures["bare: puts/s, a commit each"],
        f"puts/s at {IN_FLIGHT} in flight / bare, {IN_FLIGHT} a commit": throughput
        / figures[f"bare: puts/s, {IN_FLIGHT} a commit"],
        "latency at 1 / bare": figures["storage.put: median latency, ms"]
        / figures["bare: median latency of a put, ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--large-in", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large_in:
        print(json.dumps(asyncio.run(large_figures(arguments.large_in, arguments.large_mib))))
        return
    root = Path(tempfile.mkdtemp(prefix="benchmark-storage-", dir="."))
    try:
        folders = [root / name for name in ("bare", "store", "storage", "vectors", "large")]
        for folder in folders:
            folder.mkdir()
        figures = bare(folders[0])
        figures |= asyncio.run(store_figures(folders[1]))
        figures |= asyncio.run(storage_figures(folders[2]))
        figures |= ratios(figures)
        figures |= asyncio.run(register_figures())
        figures |= asyncio.run(vector_figures(folders[3]))
        figures |= asyncio.run(large_apart(folders[4], arguments.large_mib))
    finally:
        shutil.rmtree(root)
    for name, figure in figures.items():
        print(f"{name:55} {figure:12.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
