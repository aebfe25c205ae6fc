"""Which hostile programs get out when each layer is taken away in turn: `make sandbox-report`.

Two layers are never taken away together: without namespaces it is the uid that keeps other processes safe.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from smol.sandbox.records import LAYERS
from tests.sandbox.corpus import load
from tests.sandbox.harness import Bench
from tests.sandbox.host import WatchedHost
from tests.sandbox.test_hostile import judged


async def get_out(layers: tuple[str, ...]) -> tuple[int, dict[str, list[str]]]:
    """How many programs were run, and those that were not stopped, with what they did."""
    run, out = 0, {}
    with tempfile.TemporaryDirectory() as folder, WatchedHost(Path(folder)) as host:
        async with Bench(layers) as bench:
            for program in load("hostile"):
                if bench.runs(program.language):
                    run += 1
                    if found := await judged(bench, host, program, "strong"):
                        out[program.name] = found
    return run, out


async def main() -> None:
    print("| without | of | get out or are misjudged | which |\n|---|---|---|---|")
    for without in (None, *LAYERS):
        run, out = await get_out(tuple(layer for layer in LAYERS if layer != without))
        names = "; ".join(f"{name} ({', '.join(found)})" for name, found in sorted(out.items()))
        print(f"| {without or 'nothing'} | {run} | {len(out)} | {names} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
