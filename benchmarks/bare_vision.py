"""The bare loops that the vision units are compared with: Pillow, NumPy and ONNX Runtime in one script.

Uses nothing of Smol: this is what somebody would write who needs one model, one picture and no more.
`python benchmarks/bare_vision.py detect MODEL.onnx PICTURE.jpg` prints the median as JSON;
`load_detector` and `load_classifier` return the loop's body for use in the same process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

Detections = list[tuple[int, float, list[float]]]
"""(class, score, [x1, y1, x2, y2] in pixels of the picture)"""

NANODET_MEAN = np.array([103.53, 116.28, 123.675], dtype=np.float32)
NANODET_STD = np.array([57.375, 57.12, 58.395], dtype=np.float32)
NANODET_STRIDES = (8, 16, 32, 64)


def open_session(path: Path, threads: int, spinning: bool) -> onnxruntime.InferenceSession:
    """A session as ONNX Runtime makes it by default, but for the number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_detector(
    path: Path, *, threads: int = 2, threshold: float = 0.4, spinning: bool = True
) -> Callable[[bytes], Detections]:
    """NanoDet-Plus: the bytes of a picture to its objects."""
    session = open_session(path, threads, spinning)
    name = session.get_inputs()[0].name
    side = session.get_inputs()[0].shape[2]
    grids, steps = [], []
    for stride in NANODET_STRIDES:
        rows, columns = np.mgrid[0 : -(-side // stride), 0 : -(-side // stride)]
        grids.append(np.stack((columns.ravel(), rows.ravel()), axis=1) * stride)
        steps.append(np.full((rows.size, 1), stride))
    origin = np.concatenate(grids).astype(np.float32)
    step = np.concatenate(steps).astype(np.float32)
    bins = np.arange(8, dtype=np.float32)

    def detect(data: bytes) -> Detections:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))[:, :, ::-1]
        tensor = (pixels.astype(np.float32) - NANODET_MEAN) / NANODET_STD
        tensor = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
        rows = session.run(None, {name: tensor})[0][0]
        cells, classes = np.nonzero(rows[:, :80] > threshold)
        scores = rows[cells, classes]
        logits = rows[cells, 80:].reshape(-1, 4, 8)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        distance = (weights @ bins) / weights.sum(axis=2) * step[cells]
        boxes = np.concatenate((origin[cells] - distance[:, :2], origin[cells] + distance[:, 2:]), axis=1)
        limit = np.array([image.width, image.height] * 2, dtype=np.float32)
        kept = suppress(boxes, scores, classes, 0.6)[:100]
        boxes = np.clip(boxes[kept] * limit / side, 0, limit)
        return list(zip(classes[kept].tolist(), scores[kept].tolist(), boxes.tolist(), strict=True))

    return detect


def load_classifier(
    path: Path, *, threads: int = 2, top: int = 5, spinning: bool = True
) -> Callable[[bytes], list[tuple[int, float]]]:
    """MobileNet: the bytes of a picture to (class, probability), most probable first."""
    session = open_session(path, threads, spinning)
    name = session.get_inputs()[0].name
    side = session.get_inputs()[0].shape[2]

    def classify(data: bytes) -> list[tuple[int, float]]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = side / 0.875 / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, upper = (size[0] - side) // 2, (size[1] - side) // 2
        pixels = np.asarray(image.crop((left, upper, left + side, upper + side)))
        tensor = (pixels.astype(np.float32) - 127.5) / 127.5
        logits = session.run(None, {name: np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])})[0][0]
        weights = np.exp(logits - logits.max())
        probabilities = weights / weights.sum()
        best = np.argsort(-probabilities)[:top]
        return list(zip(best.tolist(), probabilities[best].tolist(), strict=True))

    return classify


def suppress(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], classes: npt.NDArray[Any], max_overlap: float
) -> list[int]:
    """Indices of what class-wise greedy suppression keeps, best first."""
    waiting = np.argsort(-scores)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[waiting, :2])
        high = np.minimum(boxes[first, 2:], boxes[waiting, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        overlap = shared / (area[first] + area[waiting] - shared)
        waiting = waiting[(overlap <= max_overlap) | (classes[waiting] != classes[first])]
    return kept


def measure(loop: Callable[[bytes], Any], data: bytes, rounds: int) -> list[float]:
    """Milliseconds of each round, after five that do not count."""
    for _ in range(5):
        loop(data)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        loop(data)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("detect", "classify"))
    parser.add_argument("model", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-spinning", action="store_true")
    arguments = parser.parse_args()
    load = load_detector if arguments.task == "detect" else load_classifier
    loop = load(arguments.model, threads=arguments.threads, spinning=not arguments.no_spinning)
    times = measure(loop, arguments.picture.read_bytes(), arguments.rounds)
    median, least = round(statistics.median(times), 3), round(min(times), 3)
    result = {"task": arguments.task, "median_ms": median, "min_ms": least}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
