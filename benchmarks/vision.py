"""detect.image and classify.image through the bus, beside the bare loop: decode, resize, run, post-process.

The two alternate call by call, so that what else the machine does meets both. The bare loop has the
settings that Smol has (two threads, which do not spin while they wait).
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

import smol
from benchmarks.bare_vision import load_classifier, load_detector
from benchmarks.report import Figure, median
from smol.client import BlockingClient
from smol.types import Attachment

__all__ = ["measure"]

ROUNDS = 150
COLD_STARTS = 5
MIB = 2**20
SHARED = Path(os.environ.get("SMOL_SHARED") or Path(__file__).parents[2] / "shared")


def measure() -> list[Figure]:
    """Ratios to the bare loops, the cold start and the worker's memory; nothing without real models."""
    if not (SHARED / "models").is_dir():
        print(f"vision is left out: no real models in {SHARED}; set SMOL_SHARED")
        return []
    photo = picture()
    with tempfile.TemporaryDirectory(prefix="smol-bench-") as folder:
        settings = {"SMOL_HOME": folder, "SMOL_MODEL_MIRROR": str(SHARED / "models")}
        with smol.local(settings) as s:
            figures = [*compare(s, photo), worker_memory(s)]
        figures.append(cold_start(settings, photo))
    return figures


def picture() -> bytes:
    """A photograph as a 640 x 480 JPEG."""
    source = sorted((SHARED / "datasets" / "coco-val64" / "images").glob("*.jpg"))[0]
    buffer = io.BytesIO()
    Image.open(source).convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def compare(s: BlockingClient, photo: bytes) -> list[Figure]:
    models = SHARED / "models"
    detector = load_detector(models / "detect" / "nanodet_plus_m_416.onnx", spinning=False)
    classifier = load_classifier(models / "classify" / "mobilenet_v2_1.0_224_fp32.onnx", spinning=False)
    image = Attachment(photo, "image/jpeg")
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any], float]] = [
        (
            "detect.image",
            lambda: s.call("detect.image", {"image": image, "model": "nanodet-plus-m:416"}),
            lambda: detector(photo),
            1.10,
        ),
        (
            "classify.image",
            lambda: s.call("classify.image", {"image": image, "model": "mobilenet-v2"}),
            lambda: classifier(photo),
            1.15,
        ),
    ]
    figures = []
    for name, through_smol, bare, target in pairs:
        ours, theirs = _alternate(through_smol, bare)
        figures += [
            Figure(f"{name}, warm", median(ours), "ms"),
            Figure(f"{name}, bare loop", median(theirs), "ms"),
            Figure(f"{name}, ratio", median(ours) / median(theirs), "x", target),
        ]
    return figures


def _alternate(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[list[float], list[float]]:
    for _ in range(10):
        first()
        second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, taken in zip((first, second), times, strict=True):
            started = time.perf_counter()
            call()
            taken.append((time.perf_counter() - started) * 1000)
    return times


def worker_memory(s: BlockingClient) -> Figure:
    worker = next(entry for entry in s.lifecycle.processes() if entry["name"] == "vision")
    return Figure("vision worker, both models loaded, PSS", worker["pss_bytes"] / MIB, "MiB", 150)


def cold_start(settings: dict[str, str], photo: bytes) -> Figure:
    """From starting `smol serve` to the first answer of detect.image; the model is on the disk."""

    async def once() -> float:
        started = time.perf_counter()
        async with smol.local(settings) as s:
            await s.call("detect.image", {"image": Attachment(photo, "image/jpeg")})
            return time.perf_counter() - started

    return Figure(
        "smol serve to the first detection", median([asyncio.run(once()) for _ in range(COLD_STARTS)]), "s", 1.2
    )
