"""`python -m benchmarks.squeeze`: a mixed load within ever smaller budgets.

Networks, arithmetic, large bodies and a unit that takes what memory it is told run at once. The budget must hold,
the host must live, nobody may hang, and whoever is refused or ended must be told why. Prints a table and exits
with 1 if one of these does not hold.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

import smol
from smol.client import BlockingClient
from smol.errors import DeadlineExceeded, ResourceExhausted, SmolError, Unavailable
from smol.sizes import MIB

__all__ = ["main", "squeeze"]

UNITS = Path(__file__).parents[1] / "tests" / "fixtures" / "units"
BUDGETS_MIB = (2048, 1024, 512, 256, 192)
WITHIN_SECONDS = 20.0
OVERRUN = "it needed more than"


def picture() -> bytes:
    """A JPEG of 640 x 480 with shapes in it."""
    dice = random.Random(7)
    image = Image.new("RGB", (640, 480), "gray")
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = dice.randrange(640), dice.randrange(480)
        draw.ellipse(
            (x, y, x + dice.randrange(9, 200), y + dice.randrange(9, 200)), tuple(dice.choices(range(256), k=3))
        )
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


class Tally:
    """What became of the calls. faults: what must not happen, in words."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.longest_seconds = 0.0
        self.faults: list[str] = []

    def take(self, name: str, call: Callable[[], Any]) -> None:
        """Make one call, and judge how it ends."""
        began = time.monotonic()
        try:
            call()
            outcome = "done"
        except ResourceExhausted as error:
            outcome = "refused"
            if "needed_bytes" not in error.details and "retry_after_ms" not in error.details:
                self.faults.append(f"{name} was refused without an explanation: {error}")
        except Unavailable as error:
            outcome = "ended"
            if (
                OVERRUN not in error.message
                and "cannot grow" not in error.message
                and "most above" not in error.message
            ):
                self.faults.append(f"{name} was ended within its reservation: {error}")
        except DeadlineExceeded:
            outcome = "late"
        except SmolError as error:
            outcome = "failed"
            self.faults.append(f"{name}: {error.code} {error}")
        seconds = time.monotonic() - began
        self.longest_seconds = max(self.longest_seconds, seconds)
        if seconds > WITHIN_SECONDS + 5:
            self.faults.append(f"{name} hung for {seconds:.0f} s")
        self.counts[name, outcome] += 1


def load(client: BlockingClient) -> Mapping[str, Callable[[], Any]]:
    """The calls that are made over and over, each by a thread of its own."""
    image = smol.Attachment(picture(), "image/jpeg", "shapes.jpg")
    dice = random.Random(11)

    def body() -> Any:
        data = os.urandom(1 << 16) * (16 * dice.randrange(1, 24))
        answer: Any = client.call("probe.reverse", {"data": smol.Attachment(data)})
        if bytes(answer.data) != data[::-1]:
            raise AssertionError("a body came back changed")

    return {
        "math.evaluate": lambda: client.call("math.evaluate", {"expression": "sqrt(2)^3 + 1/7"}),
        "detect.image": lambda: client.call("detect.image", {"image": image}),
        "classify.image": lambda: client.call("classify.image", {"image": image}),
        "probe.reverse": body,
        "hog.take": lambda: client.call("hog.take", {"mib": dice.randrange(1, 160)}),
        "hog.load": lambda: client.call(
            "hog.load", {"model": f"m{dice.randrange(3)}", "mib": dice.randrange(8, 120)}
        ),
    }


def squeeze(
    budget_mib: int, seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[Tally, dict[str, Any]]:
    """Run the load within a budget. Returns what became of it, and the last status of the memory."""
    with tempfile.TemporaryDirectory() as home:
        settings = {
            "SMOL_HOME": home,
            "SMOL_HOST_UNIT_DIRECTORIES": str(UNITS),
            "SMOL_HOST_BUDGET": f"{budget_mib}MiB",
            "SMOL_HOST_LOG_LEVEL": "error",
            **(environment or {}),
        }
        tally = Tally()
        with smol.local(settings) as client:
            host = client.call("lifecycle.status")
            calls = load(client.within(WITHIN_SECONDS))
            end = time.monotonic() + seconds

            def repeat(name: str, call: Callable[[], Any]) -> None:
                while time.monotonic() < end:
                    tally.take(name, call)

            threads = [threading.Thread(target=repeat, args=item) for item in calls.items()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            memory: dict[str, Any] = client.call("memory.status")
            evictions = [o for o in client.call("memory.explain", {"limit": 512}) if o["decision"] == "evict"]
            memory["swaps"] = len(evictions)
            if client.call("lifecycle.status")["pid"] != host["pid"]:
                tally.faults.append("the host did not live")
    if memory["peak_bytes"] > budget_mib * MIB:
        tally.faults.append(f"the peak was {memory['peak_bytes'] / MIB:.0f} MiB")
    return tally, memory


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each budget")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS_MIB, metavar="MIB")
    options = parser.parse_args(arguments)
    faults = []
    print(
        f"{'budget':>8} {'peak':>8} {'kept by':>8} {'swaps':>6} {'longest':>8}  calls: done, refused, ended, late"
    )
    for budget_mib in options.budgets:
        tally, memory = squeeze(budget_mib, options.seconds)
        print(
            f"{budget_mib:>4} MiB {memory['peak_bytes'] / MIB:>4.0f} MiB {memory['guarantee']:>8} "
            f"{memory['swaps']:>6} {tally.longest_seconds:>6.1f} s"
        )
        for name in sorted({name for name, _ in tally.counts}):
            done, refused, ended, late = (tally.counts[name, o] for o in ("done", "refused", "ended", "late"))
            rate = done / options.seconds
            print(f"{'':42}{name:<15} {rate:8.1f}/s {done:>7} {refused:>6} {ended:>5} {late:>4}", flush=True)
        faults += [f"{budget_mib} MiB: {fault}" for fault in tally.faults]
    for fault in faults[:20]:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
