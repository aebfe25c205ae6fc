"""The classify unit is as accurate on real photos as a plain reading of the model's description."""

from __future__ import annotations

import asyncio
import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smol.engines.onnx import OnnxEngine
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.units.classify.unit import Classify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EVERY = 2
"""Every second of the 800 photos, to stay within the time that a test may take."""


@pytest.fixture
def photos(shared: Path) -> list[tuple[Path, int]]:
    folder = shared / "datasets" / "imagenet-sample800"
    with (folder / "labels.csv").open(newline="") as file:
        return [(folder / row["file"], int(row["index"])) for row in csv.DictReader(file)][::EVERY]


@pytest.fixture
def context(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("SMOL_MODEL_MIRROR", str(shared / "models"))
    log = logging.getLogger("smol.units.classify")
    return Context(Environment(unit="classify", log=log, data_dir=tmp_path, cache_dir=tmp_path))


def reference_top1(engine: OnnxEngine, photos: list[tuple[Path, int]]) -> float:
    """Shorter side to 256, centre 224 x 224, -1 to 1: as a percentage."""
    right = 0
    for path, index in photos:
        image = Image.open(path).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
        tensor = ((pixels - 127.5) / 127.5).transpose(2, 0, 1)[None]
        logits = engine.run({"input": tensor})["logits"]
        right += int(logits.argmax()) == index
    return 100 * right / len(photos)


@pytest.mark.parametrize(
    ("model", "file", "lowest"),
    [
        ("mobilenet-v2:1.0-224", "mobilenet_v2_1.0_224_fp32.onnx", 86.0),
        ("mobilenet-v2:1.0-224-int8", "mobilenet_v2_1.0_224_int8.onnx", 86.0),
    ],
)
def test_the_unit_is_as_accurate_as_the_reference(
    shared: Path, photos: list[tuple[Path, int]], context: Context, model: str, file: str, lowest: float
) -> None:
    unit = Classify()
    asyncio.run(unit.provision(context))
    answers = [unit.image(Attachment.from_file(path), context, top=1, model=model) for path, _ in photos]
    right = sum(answer.classes[0].index == index for answer, (_, index) in zip(answers, photos, strict=True))
    found = 100 * right / len(photos)
    engine = OnnxEngine.load(shared / "models" / "classify" / file)
    assert found == pytest.approx(reference_top1(engine, photos), abs=1.0)
    assert found >= lowest
