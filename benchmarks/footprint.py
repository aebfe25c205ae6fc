"""What Smol takes before it works: imports, idle processes, forked workers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import smol
from benchmarks.report import Figure, median

__all__ = ["measure"]

WORKERS = 10
MIB = 2**20

_IMPORT = """
import time
start = time.perf_counter()
import {module}
elapsed = time.perf_counter() - start
pss = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:")).split()[1]
print(elapsed * 1000, int(pss) / 1024)
"""

_UNIT = """
from smol.sdk import Unit, operation


class Small(Unit):
    \"\"\"A unit for measuring.\"\"\"

    @operation(read_only=True)
    async def echo(self, text: str) -> str:
        \"\"\"Return the text.\"\"\"
        return text
"""


def measure() -> list[Figure]:
    """Figures of imports, the idle host and small workers."""
    return [*measure_imports(), *measure_host()]


def measure_imports() -> Iterator[Figure]:
    samples = [_import("smol.sdk") for _ in range(9)]
    bare = [_import("sys") for _ in range(5)]
    yield Figure("import smol.sdk", median([sample[0] for sample in samples]), "ms", 60)
    memory = median([sample[1] for sample in samples])
    note = f"bare Python {median([sample[1] for sample in bare]):.1f} MiB"
    yield Figure("import smol.sdk, PSS", memory, "MiB", 18, note=note)


def _import(module: str) -> tuple[float, float]:
    command = [sys.executable, "-c", _IMPORT.format(module=module)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(output[0]), float(output[1])


def measure_host() -> Iterator[Figure]:
    with small_units() as settings, smol.local(settings) as s:
        time.sleep(1.0)
        idle = sum(entry["pss_bytes"] for entry in s.lifecycle.processes()) / MIB
        registered = len(s.lifecycle.units())
        yield Figure(
            "idle host + zygote, PSS", idle, "MiB", 40, note=f"{registered} units registered, none running"
        )
        for number in range(WORKERS):
            s.call(f"small{number}.echo", {"text": "x"})
        time.sleep(0.5)
        workers = [entry for entry in s.lifecycle.processes() if entry["name"].startswith("small")]
        yield Figure(
            "fork a worker to ready", median([1000 * entry["ready_seconds"] for entry in workers]), "ms", 25
        )
        pss = [entry["pss_bytes"] / MIB for entry in workers]
        private = median([_private_bytes(entry["pid"]) / MIB for entry in workers])
        note = f"each of {WORKERS}; private {private:.1f} MiB"
        yield Figure("worker without numpy, PSS", sum(pss) / len(pss), "MiB", 6, note=note)


@contextlib.contextmanager
def small_units() -> Iterator[dict[str, str]]:
    """Settings of a private host that knows ten small units."""
    with tempfile.TemporaryDirectory(prefix="smol-bench-") as folder:
        for number in range(WORKERS):
            home = Path(folder, "units", f"small{number}")
            home.mkdir(parents=True)
            (home / "unit.toml").write_text(f'[unit]\nname = "small{number}"\nclass = "small{number}:Small"\n')
            (home / f"small{number}.py").write_text(_UNIT)
        yield {"SMOL_HOME": folder, "SMOL_HOST_UNIT_DIRECTORIES": f"{folder}/units"}


def _private_bytes(pid: int) -> int:
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1]) * 1024
    return total
