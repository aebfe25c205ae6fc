"""Go beside Python: the same echo called from and served by either, through one host; what a Go unit takes.

In rounds that alternate, so that whatever else the machine does falls on all alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smol
from benchmarks.calls import _rate
from benchmarks.footprint import MIB, small_units
from benchmarks.report import Figure, median
from smol.client import BlockingClient
from smol.errors import FailedPrecondition
from smol.host.golang import FLAGS, find_toolchain, sdk_directory

__all__ = ["measure"]

ROUNDS = 5
SECONDS = 2
STARTS = 9
HASH_BYTES = 512 * MIB
TEXT = {"text": "x" * 100}
ROOT = Path(__file__).parents[1]


def measure() -> list[Figure]:
    """Figures of Go; none where there is no toolchain."""
    try:
        go = find_toolchain().go
    except FailedPrecondition as error:
        print(f"\nGo is not measured: {error.message}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="smol-bench-go-") as folder:
        _build(go, sdk_directory(), Path(folder, "driver"), "./internal/driver")
        with small_units() as settings:
            home = settings["SMOL_HOME"]
            _link_units(Path(home, "units"))
            settings |= {"SMOL_UNITS__FILES__ROOTS": json.dumps([home])}
            with _serving(settings) as socket, smol.connect(socket) as client:
                rates = asyncio.run(_compare(socket, Path(folder, "driver")))
                figures = [*_ratios(rates), *_footprint(client), *_hashing(client, Path(home, "data.bin"))]
        figures.append(_box_size(go, Path(folder)))
    return figures


def _build(go: Path, module: Path, output: Path, package: str) -> None:
    environ = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": ""}
    subprocess.run([go, "build", *FLAGS, "-o", output, package], cwd=module, env=environ, check=True)


def _link_units(units: Path) -> None:
    for name, source in (("gopher", "internal/gopher"), ("files", "cmd/files")):
        (units / name).mkdir()
        path = sdk_directory() / source
        manifest = f'[unit]\nname = "{name}"\ngo = "{path}"\nconcurrency = 64\nqueue = 1024\n'
        (units / name / "unit.toml").write_text(manifest)
    for manifest_file in units.glob("small*/unit.toml"):
        manifest_file.write_text(manifest_file.read_text() + "concurrency = 64\nqueue = 1024\n")


@contextlib.contextmanager
def _serving(settings: dict[str, str]) -> Iterator[Path]:
    """A host that clients in both languages can reach."""
    socket = Path(settings["SMOL_HOME"], "s")
    environ = {**os.environ, **settings, "SMOL_SOCKET": str(socket), "SMOL_HOST_LOG_LEVEL": "error"}
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "smol.cli.main", "serve", "--ready-fd", str(writer)]
    with subprocess.Popen(command, env=environ, pass_fds=[writer]) as process:
        os.close(writer)
        try:
            os.read(reader, 1)
            yield socket
        finally:
            os.close(reader)
            process.terminate()


Rates = dict[tuple[str, int], list[float]]


async def _compare(socket: Path, driver: Path) -> Rates:
    """Calls per second by who calls whom, and how many are in flight."""
    rates: Rates = {}
    async with smol.connect(socket) as client:
        for operation in ("small0.echo", "gopher.echo"):
            await client.within(600).call(operation, TEXT)
        for number in range(ROUNDS + 1):
            for in_flight in (1, 64):
                for unit, operation in (("Python", "small0.echo"), ("Go", "gopher.echo")):
                    found = {
                        "Python": await _rate(lambda each=operation: client.call(each, TEXT), in_flight, SECONDS),
                        "Go": await asyncio.to_thread(_drive, socket, driver, operation, in_flight),
                    }
                    for caller, rate in found.items():
                        if number:  # The first round warms up.
                            rates.setdefault((f"{caller} → {unit}", in_flight), []).append(rate)
    return rates


def _drive(socket: Path, driver: Path, operation: str, in_flight: int) -> float:
    command = [str(driver), "rate", operation, json.dumps(TEXT), str(in_flight), str(SECONDS)]
    environ = {**os.environ, "SMOL_SOCKET": str(socket)}
    answer = json.loads(subprocess.run(command, env=environ, capture_output=True, check=True).stdout)
    return float(answer["per_second"])


def _ratios(rates: Rates) -> Iterator[Figure]:
    targets = {"Go → Python": 0.9, "Python → Go": 0.9, "Go → Go": 1.3}
    for in_flight in (1, 64):
        base = rates["Python → Python", in_flight]
        yield Figure(f"Python → Python, {in_flight} in flight", median(base), "/s")
        for pair, target in targets.items():
            found = rates[pair, in_flight]
            ratio = median([one / other for one, other in zip(found, base, strict=True)])
            note = f"{median(found):.0f} /s"
            yield Figure(f"{pair} to Python → Python, {in_flight} in flight", ratio, "x", target, True, note)


def _process(client: BlockingClient, name: str) -> dict[str, Any]:
    processes: Any = client.call("lifecycle.processes")
    return next(process for process in processes if process["name"] == name)


def _footprint(client: BlockingClient) -> Iterator[Figure]:
    loaded = _process(client, "gopher")["pss_bytes"] / MIB
    ready = []
    for _ in range(STARTS):
        client.call("lifecycle.restart", {"name": "gopher"})
        ready.append(1000 * _process(client, "gopher")["ready_seconds"])
    client.call("gopher.echo", TEXT)
    note = f"{loaded:.1f} MiB behind the calls above"
    yield Figure("a Go unit, PSS", _process(client, "gopher")["pss_bytes"] / MIB, "MiB", 12, note=note)
    yield Figure("a Go unit, start to ready", median(ready), "ms", 15)


def _hashing(client: BlockingClient, path: Path) -> Iterator[Figure]:
    """SHA-256 of a file that is in the page cache, beside coreutils."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(HASH_BYTES // MIB):
            file.write(block)
    ours, theirs = [], []
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        client.within(600).call("files.hash", {"path": str(path)})
        middle = time.perf_counter()
        subprocess.run(["sha256sum", path], check=True, stdout=subprocess.DEVNULL)
        if number:
            ours.append(HASH_BYTES / (middle - started) / 1e6)
            theirs.append(HASH_BYTES / (time.perf_counter() - middle) / 1e6)
    path.unlink()
    yield Figure("files.hash, SHA-256", median(ours), "MB/s", 800, True)
    ratio = median([one / other for one, other in zip(ours, theirs, strict=True)])
    yield Figure("files.hash to sha256sum", ratio, "x", 0.9, True, f"{median(theirs):.0f} MB/s")


def _box_size(go: Path, folder: Path) -> Figure:
    module = folder / "box"
    shutil.copytree(sdk_directory(), module)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", module / "cmd/smol-box/payload", ROOT], check=True)
    _build(go, module, folder / "smol-box", "./cmd/smol-box")
    return Figure("smol-box, with Smol in it", (folder / "smol-box").stat().st_size / MIB, "MiB", 8)
