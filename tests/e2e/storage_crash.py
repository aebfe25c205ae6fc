"""Kills a storage unit under load, and checks what is left: `python tests/e2e/storage_crash.py --times 500`.

A child process serves puts, batches, deletes and an upload, and writes a line to a pipe for each
acknowledged one. It is killed with SIGKILL at a random moment; then the store is opened and compared:
every acknowledged write is there, no other is half there. The child's writes can be told from their keys,
so that one that was on its way may be there or not, but only whole. Covers crashes of the process; what
power cuts do, SQLite's own synchronous=FULL covers, which the unit's tests cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smol.errors import SmolError
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.units.storage.records import Action
from smol.units.storage.unit import Storage

CLIENTS = 16
LARGE_BYTES = 300_000


def context_of(folder: Path, **settings: Any) -> Context:
    log = logging.getLogger("storage-crash")
    return Context(Environment(unit="storage", log=log, data_dir=folder, cache_dir=folder, settings=settings))


def large(seed: str) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(LARGE_BYTES)


def acknowledge(*facts: Any) -> None:
    """One write, so that a line is never cut in two: it is shorter than PIPE_BUF."""
    os.write(1, json.dumps(facts).encode() + b"\n")


async def client(storage: Storage, context: Context, run: str, name: int) -> None:
    """Write for ever; the serial number in each value only grows."""
    serial = 0
    while True:
        serial += 1
        prefix = f"{run}/{name}"
        try:
            await storage.put(context, f"{prefix}/last", serial)
            acknowledge("last", prefix, serial)
            await storage.put(context, f"{prefix}/{serial}", {"n": serial, "pad": "x" * (serial % 900)})
            acknowledge("kept", prefix, serial)
            if serial % 5 == 0:
                halves = [Action(do="put", key=f"{prefix}/{side}", value=serial) for side in ("left", "right")]
                gone = Action(do="delete", key=f"{prefix}/{serial - 1}")
                await storage.batch(context, [*halves, gone])
                acknowledge("pair", prefix, serial)
            if serial % 40 == 0:
                await upload(storage, prefix, serial)
        except SmolError as error:
            acknowledge("refused", prefix, error.code)
            await asyncio.sleep(0)


async def upload(storage: Storage, prefix: str, serial: int) -> None:
    data = large(f"{prefix}/{serial}")
    token = (await storage.begin_upload()).upload
    for start in range(0, LARGE_BYTES, 100_000):
        await storage.append(token, start, Attachment(data[start : start + 100_000]))
    await storage.finish_upload(token, f"{prefix}/large", sha256=hashlib.sha256(data).hexdigest())
    acknowledge("large", prefix, serial)


async def serve(folder: Path, run: str) -> None:
    storage, context = Storage(), context_of(folder)
    await storage.provision(context)
    acknowledge("ready", storage.store.statistics().check, 0)
    await asyncio.gather(*(client(storage, context, run, name) for name in range(CLIENTS)))


@dataclass
class Acknowledged:
    """The greatest serial number acknowledged of each kind, by prefix."""

    last: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    pair: dict[str, int] = field(default_factory=dict)
    large: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def take(self, output: bytes) -> int:
        """Read the child's lines; how many writes were acknowledged."""
        lines = output.splitlines()
        count = 0
        for line in lines:
            kind, prefix, value = json.loads(line)
            if kind == "refused":
                self.refused += 1
            elif kind != "ready":
                getattr(self, kind)[prefix] = value
                count += 1
        return count


def run_and_kill(folder: Path, run: str, after_seconds: float) -> bytes:
    """Start a child, kill it `after_seconds` after it was ready; what it acknowledged."""
    command = [sys.executable, __file__, "--serve", str(folder), "--run", run]
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output)
        try:
            give_up = time.monotonic() + 20
            while not os.fstat(output.fileno()).st_size and time.monotonic() < give_up and child.poll() is None:
                time.sleep(0.005)
            time.sleep(after_seconds)
            if child.poll() is not None:
                raise RuntimeError(f"the child ended by itself with {child.returncode}")
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        output.seek(0)
        return output.read()


async def verify(folder: Path, acknowledged: Acknowledged) -> list[str]:
    """Open the store as a restart would, and list what is wrong."""
    wrong: list[str] = []
    storage, context = Storage(), context_of(folder)
    await storage.provision(context)
    try:
        status = await storage.status()
        if status.check != "ok" or status.set_aside:
            wrong.append(f"the file is damaged: {status.check} {status.set_aside}")
        for prefix, serial in acknowledged.last.items():
            wrong += await _verify_client(storage, acknowledged, prefix, serial)
        counted = await storage.store.read(
            lambda c: c.execute("SELECT count(*), sum(bytes) FROM items WHERE NOT deleted").fetchone()
        )
        if counted != (status.items, status.bytes):
            wrong.append(f"counts say {status.items}, {status.bytes}; there are {counted}")
    finally:
        await storage.close()
    return wrong


async def _verify_client(storage: Storage, acknowledged: Acknowledged, prefix: str, serial: int) -> list[str]:
    wrong = []

    async def value(name: str, missing: Any = 0) -> Any:
        try:
            return (await storage.get(f"{prefix}/{name}")).value
        except SmolError:
            return missing

    # The write after the acknowledged one may have been on its way: there whole, or not at all.
    if await value("last") not in (serial, serial + 1):
        wrong.append(f"{prefix}/last is {await value('last')}, acknowledged {serial}")
    kept = acknowledged.kept.get(prefix, 0)
    pair = acknowledged.pair.get(prefix, 0)
    left, right = await value("left"), await value("right")
    if left != right or left not in (pair, pair + 5):
        wrong.append(f"{prefix} pair is {left} and {right}, acknowledged {pair}")
    for number in range(1, kept + 2):
        found = await value(str(number), None)
        if (number + 1) % 5 == 0 and number + 1 <= left:
            if found is not None:
                wrong.append(f"{prefix}/{number} was deleted and is there")
        elif number <= kept and found is None:
            wrong.append(f"{prefix}/{number} was acknowledged and is missing")
        elif found is not None and found != {"n": number, "pad": "x" * (number % 900)}:
            wrong.append(f"{prefix}/{number} is half there: {found}")
    expected = acknowledged.large.get(prefix, 0)
    try:
        data = b"".join([bytes(chunk.data) async for chunk in storage.download(f"{prefix}/large")])
    except SmolError:
        data = b""
    if data != (large(f"{prefix}/{expected}") if expected else b"") and data != large(f"{prefix}/{expected + 40}"):
        wrong.append(f"{prefix}/large has {len(data)} wrong bytes, acknowledged {expected}")
    return wrong


def soak(times: int, folder: Path, seed: int) -> tuple[int, int]:
    """Kill `times` times on one store; how many writes were acknowledged and how many were refused.

    Raises RuntimeError naming what was lost.
    """
    chance = random.Random(seed)
    total, refused = 0, 0
    for number in range(times):
        acknowledged = Acknowledged()
        output = run_and_kill(folder, f"run{number}", chance.expovariate(1 / 0.15))
        total += acknowledged.take(output)
        refused += acknowledged.refused
        if wrong := asyncio.run(verify(folder, acknowledged)):
            raise RuntimeError(f"kill {number} (seed {seed}): " + "; ".join(wrong[:20]))
        if (number + 1) % 50 == 0:
            print(f"{number + 1} kills, {total} acknowledged writes, all there", flush=True)
            shutil.rmtree(folder)
            folder.mkdir()
    return total, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--run", default="run")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve, arguments.run))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        total, _ = soak(arguments.times, folder, arguments.seed)
    print(
        f"{arguments.times} kills, {total} acknowledged writes, none lost, none half there (seed {arguments.seed})"
    )


if __name__ == "__main__":
    main()
