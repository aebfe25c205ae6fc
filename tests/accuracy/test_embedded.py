"""The detector of the package sees what its card says, on pictures that it was not trained on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smol.models import load_catalog
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.units.detect.unit import Detect, Detection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CATEGORIES = {"person": 1, "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "cow": 21}
ANIMALS = ("cat", "dog", "horse", "sheep", "cow")
VARIANTS = [variant.name for model, variant in load_catalog().variants("detect") if model.name == "smol-detect"]

Look = Callable[[Path, str, float], Detection]


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """(picture, variant, threshold) -> what the unit answers, without any source of models but the package."""
    empty = tmp_path_factory.mktemp("empty")
    log = logging.getLogger("smol.units.detect")
    context = Context(Environment(unit="detect", log=log, data_dir=empty, cache_dir=empty))
    unit = Detect()
    asyncio.run(unit.provision(context))

    def detect(path: Path, variant: str, threshold: float) -> Detection:
        return unit.image(Attachment.from_file(path), context, model=f"smol-detect:{variant}", threshold=threshold)

    return detect


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_finds_the_animals(shared: Path, evaluate_boxes: Any, look: Look, variant: str) -> None:
    def detect(path: Path) -> list[tuple[int, float, list[float]]]:
        found = look(path, variant, 0.05).objects
        return [
            (CATEGORIES[item.label], item.score, [item.box.x1, item.box.y1, item.box.x2, item.box.y2])
            for item in found
        ]

    annotations = shared / "datasets" / "animals-det" / "instances_val.json"
    evaluation = evaluate_boxes(annotations, detect, [CATEGORIES[name] for name in ANIMALS])
    assert evaluation.stats[1] > 0.54


def test_it_tells_somebody_from_nobody(shared: Path, look: Look) -> None:
    """The first frames of the clip show a person, the later ones an empty room."""
    folder = shared / "datasets" / "video" / "person-frames"
    somebody = [look(folder / f"{index:04}.jpg", VARIANTS[0], 0.4) for index in range(0, 50, 7)]
    nobody = [look(folder / f"{index:04}.jpg", VARIANTS[0], 0.4) for index in range(60, 110, 7)]
    seen, imagined = (sum(has_person(found) for found in frames) for frames in (somebody, nobody))
    assert seen >= 0.8 * len(somebody)
    assert imagined <= 0.1 * len(nobody)


def has_person(found: Detection) -> bool:
    return any(item.label == "person" for item in found.objects)
