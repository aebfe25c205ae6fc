"""What `make demo` runs: Smol's main job on real photographs, and what it cost.

    python examples/demo.py [PHOTO or DIRECTORY]...

Starts a private host, finds and names what is in each photo, computes something beside, shows the
memory of every process, and stops. The photos with boxes drawn are written to `out/`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import smol

KINDS = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
FAVOURITES = ("astronaut.png", "chelsea.png", "motorcycle_left.png", "coffee.png", "rocket.jpg")
OUT = Path("out")
CARDS = Path(smol.__file__).with_name("models") / "embedded"


def choose(arguments: list[str]) -> list[Path]:
    """The photos to show: those named, or the favourites of a directory, or its first five."""
    photos: list[Path] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            favourites = [argument / name for name in FAVOURITES if (argument / name).exists()]
            others = sorted(path for path in argument.iterdir() if path.suffix.lower() in KINDS)
            photos += favourites or others[:5]
        else:
            photos.append(argument)
    return photos


def mirror() -> dict[str, str]:
    """Models from beside the checkout, if they are there and nothing else is said."""
    beside = Path(__file__).parents[2] / "shared" / "models"
    if "SMOL_MODEL_MIRROR" in os.environ or not beside.is_dir():
        return {}
    return {"SMOL_MODEL_MIRROR": str(beside)}


async def look(s: smol.client.Client, photo: Path) -> None:
    """Find and name what is in one photo, at the same time; what no network is there for is left out."""
    started = time.perf_counter()
    found, named = await asyncio.gather(
        s.detect.image(photo, annotated=True), s.classify.image(photo, top=2), return_exceptions=True
    )
    took_ms = (time.perf_counter() - started) * 1000
    print(f"{photo.name}, {took_ms:.0f} ms in all")
    if isinstance(found, BaseException):
        print(f"  objects  {refused(found)}")
    else:
        objects = ", ".join(f"{item['label']} {item['score']:.0%}" for item in found["objects"][:6])
        drawn = OUT / f"{photo.stem}.{found['annotated'].media_type.partition('/')[2]}"
        drawn.write_bytes(found["annotated"].data)
        print(f"  objects  {objects or 'nothing it knows'}")
        print(f"           {credit(found)}")
        print(f"           drawn in {drawn}")
    if isinstance(named, BaseException):
        print(f"  classes  {refused(named)}")
    else:
        print("  classes  " + ", ".join(f"{item['label']} {item['score']:.0%}" for item in named["classes"]))
        print(f"           {credit(named)}")


def refused(error: BaseException) -> str:
    """Why there is no answer, if that is for want of a network; anything else is raised."""
    if not isinstance(error, smol.errors.Unavailable):
        raise error
    return "no network for this is here: set SMOL_MODEL_MIRROR to where models are ('smol models')"


def credit(answer: dict[str, Any]) -> str:
    """Who answered, and how long the network took; of a network of the package, what its card begins with."""
    line = f"by {answer['model']}:{answer['variant']}, inference {answer['timing']['inference_ms']:.1f} ms"
    card = CARDS / f"{answer['model']}.md"
    return f"{line}; {card.read_text(encoding='utf-8').splitlines()[0]}" if card.exists() else line


async def main(arguments: list[str]) -> int:
    photos = choose(arguments)
    if not photos:
        print("no photos: name some, or a directory", file=sys.stderr)
        return 2
    OUT.mkdir(exist_ok=True)
    started = time.perf_counter()
    async with smol.local(mirror()) as s:
        print(f"Smol {smol.__version__} serves after {(time.perf_counter() - started) * 1000:.0f} ms\n")
        for photo in photos:
            await look(s, photo)
        sum_ = await s.math.evaluate("2/3 + 1e-30")
        print(f"\n2/3 + 1e-30\n  exact    {sum_['exact']}\n  decimal  {sum_['decimal']}\n")
        await show_memory(s)
    return 0


async def show_memory(s: smol.client.Client) -> None:
    """What every process takes, beside the budget."""
    processes: list[dict[str, Any]] = [entry for entry in await s.lifecycle.processes() if entry["pss_bytes"]]
    for entry in processes:
        units = f"  ({', '.join(entry['units'])})" if entry["units"] else ""
        print(f"  {entry['name']:<8} {entry['pss_bytes'] / 2**20:6.1f} MiB{units}")
    status = await s.lifecycle.status()
    total = sum(entry["pss_bytes"] for entry in processes)
    print(f"  in all   {total / 2**20:6.1f} MiB of a budget of {status['budget_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except smol.SmolError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        sys.exit(1)
