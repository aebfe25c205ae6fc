"""The detect unit is as accurate on real photos as a plain reading of each model's description.

The reference is written on its own, in float64, one class at a time, without any shortcut of
`smol.vision`, which it does not use. Average precision is COCO's, by pycocotools, where installed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from smol.engines.onnx import OnnxEngine
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.units.detect.unit import Detect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

THRESHOLD = 0.05
TOLERANCE = 0.01
"""Of average precision, 0 to 1."""

FloatArray = npt.NDArray[np.float64]
Found = list[tuple[int, float, list[float]]]
"""(class, score, [x1, y1, x2, y2] in pixels of the picture)"""


def sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)))


def cells(side: int, strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(column, row, stride) of each cell in the order of the output's rows."""
    found = []
    for stride in strides:
        count = -(-side // stride)
        found += [(column, row, stride) for row in range(count) for column in range(count)]
    return found


def nanodet(output: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Boxes [n, 4] in input pixels and scores [n, 80]."""
    boxes = []
    for row, (x, y, stride) in zip(output[0], cells(side, (8, 16, 32, 64)), strict=True):
        parts = np.exp(row[80:].reshape(4, 8))
        left, top, right, bottom = (parts * np.arange(8)).sum(axis=1) / parts.sum(axis=1) * stride
        boxes.append([x * stride - left, y * stride - top, x * stride + right, y * stride + bottom])
    return np.array(boxes), output[0][:, :80]


def yolox(output: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    boxes = []
    for row, (x, y, stride) in zip(output[0], cells(side, (8, 16, 32)), strict=True):
        cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
        w, h = np.exp(row[2]) * stride, np.exp(row[3]) * stride
        boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return np.array(boxes), only_best(output[0][:, 5:] * output[0][:, 4:5])


def fastestdet(output: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    boxes, scores = [], []
    for y in range(22):
        for x in range(22):
            row = output[0, :, y, x]
            cx, cy = (np.tanh(row[1]) + x) / 22 * side, (np.tanh(row[2]) + y) / 22 * side
            w, h = sigmoid(row[3:5]) * side
            boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            scores.append(row[0] ** 0.6 * row[5:] ** 0.4)
    return np.array(boxes), only_best(np.array(scores))


def only_best(scores: FloatArray) -> FloatArray:
    kept = np.zeros_like(scores)
    best = scores.argmax(axis=1)
    kept[np.arange(len(scores)), best] = scores[np.arange(len(scores)), best]
    return kept


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of one box with several."""
    width = np.minimum(a[2], b[:, 2]) - np.maximum(a[0], b[:, 0])
    height = np.minimum(a[3], b[:, 3]) - np.maximum(a[1], b[:, 1])
    shared = np.clip(width, 0, None) * np.clip(height, 0, None)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return np.asarray(shared / (areas - shared))


HEADS = {"nanodet-plus-m": (nanodet, 0.6), "yolox-nano": (yolox, 0.65), "fastestdet": (fastestdet, 0.45)}


class Reference:
    """One detector of `shared/models/detect`."""

    def __init__(self, path: Path, model: str) -> None:
        self.engine = OnnxEngine.load(path)
        self.model = model
        self.side = self.engine.inputs[0].shape[2] or 0

    def detect(self, path: Path, threshold: float) -> Found:
        picture = Image.open(path).convert("RGB")
        tensor, scale_x, scale_y = self.prepare(picture)
        output = self.engine.run({self.engine.inputs[0].name: tensor.astype(np.float32)})
        head, max_overlap = HEADS[self.model]
        boxes, scores = head(np.asarray(next(iter(output.values())), dtype=np.float64), self.side)
        limit = np.array([picture.width, picture.height] * 2)
        boxes = np.clip(boxes / [scale_x, scale_y, scale_x, scale_y], 0, limit)
        found: Found = []
        for kind in range(80):
            order = [i for i in np.argsort(-scores[:, kind]) if scores[i, kind] > threshold]
            while order:
                best = order.pop(0)
                found.append((kind, float(scores[best, kind]), boxes[best].tolist()))
                if order:
                    overlaps = overlap(boxes[best], boxes[order])
                    order = [i for i, value in zip(order, overlaps, strict=True) if value <= max_overlap]
        return sorted(found, key=lambda item: -item[1])[:100]

    def prepare(self, picture: Image.Image) -> tuple[FloatArray, float, float]:
        """The input tensor, and input pixels per picture pixel."""
        side = self.side
        scale_x, scale_y = side / picture.width, side / picture.height
        if self.model == "yolox-nano":
            scale_x = scale_y = min(scale_x, scale_y)
            size = (int(picture.width * scale_x), int(picture.height * scale_y))
            pixels = np.full((side, side, 3), 114.0)
            pixels[: size[1], : size[0]] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        else:
            pixels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).astype(np.float64)
        pixels = pixels[:, :, ::-1]
        if self.model == "nanodet-plus-m":
            pixels = (pixels - [103.53, 116.28, 123.675]) / [57.375, 57.12, 58.395]
        elif self.model == "fastestdet":
            pixels = pixels / 255
        return pixels.transpose(2, 0, 1)[None], scale_x, scale_y


@pytest.fixture(scope="module")
def average_precision(shared: Path, evaluate_boxes: Any) -> Callable[[Callable[[Path], Found]], float]:
    """Run a detector over the photos; COCO AP, 0 to 1, for IoU from 0.5 to 0.95."""
    annotations = shared / "datasets" / "coco-val64" / "instances.json"
    ids = sorted(category["id"] for category in json.loads(annotations.read_text())["categories"])

    def evaluate(detect: Callable[[Path], Found]) -> float:
        def by_id(path: Path) -> Found:
            return [(ids[kind], score, corners) for kind, score, corners in detect(path)]

        return float(evaluate_boxes(annotations, by_id, ()).stats[0])

    return evaluate


@pytest.fixture
def unit_detector(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Callable[[Path], Found]]:
    monkeypatch.setenv("SMOL_MODEL_MIRROR", str(shared / "models"))
    log = logging.getLogger("smol.units.detect")
    context = Context(Environment(unit="detect", log=log, data_dir=tmp_path, cache_dir=tmp_path))
    unit = Detect()
    asyncio.run(unit.provision(context))
    names = (shared / "models" / "coco80_labels.txt").read_text().split("\n")

    def detector(model: str) -> Callable[[Path], Found]:
        def detect(path: Path) -> Found:
            found = unit.image(Attachment.from_file(path), context, model=model, threshold=THRESHOLD)
            return [
                (names.index(item.label), item.score, [item.box.x1, item.box.y1, item.box.x2, item.box.y2])
                for item in found.objects
            ]

        return detect

    return detector


@pytest.mark.parametrize(
    ("model", "variant", "file", "lowest"),
    [
        ("nanodet-plus-m", "416", "nanodet_plus_m_416.onnx", 0.39),
        ("yolox-nano", "416", "yolox_nano_416.onnx", 0.33),
        ("fastestdet", "352", "fastestdet_352.onnx", 0.20),
    ],
)
def test_the_unit_is_as_accurate_as_the_reference(
    shared: Path,
    average_precision: Callable[[Callable[[Path], Found]], float],
    unit_detector: Callable[[str], Callable[[Path], Found]],
    model: str,
    variant: str,
    file: str,
    lowest: float,
) -> None:
    found = average_precision(unit_detector(f"{model}:{variant}"))
    reference = Reference(shared / "models" / "detect" / file, model)
    expected = average_precision(lambda path: reference.detect(path, THRESHOLD))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert found > lowest


@pytest.mark.parametrize(("variant", "measured"), [("416-int8", 0.385), ("320", 0.360), ("320-int8", 0.353)])
def test_the_other_variants_are_as_accurate_as_when_they_were_measured(
    average_precision: Callable[[Callable[[Path], Found]], float],
    unit_detector: Callable[[str], Callable[[Path], Found]],
    variant: str,
    measured: float,
) -> None:
    """int8 arithmetic differs between processors, hence twice the tolerance."""
    assert average_precision(unit_detector(f"nanodet-plus-m:{variant}")) == pytest.approx(
        measured, abs=2 * TOLERANCE
    )
