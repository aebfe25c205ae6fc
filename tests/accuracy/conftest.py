"""COCO's evaluation of boxes, by pycocotools, where installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Found = list[tuple[int, float, list[float]]]
"""(category id, score, [x1, y1, x2, y2] in pixels of the picture)"""
Evaluate = Callable[[Path, Callable[[Path], Found], Sequence[int]], Any]


@pytest.fixture(scope="session")
def evaluate_boxes() -> Evaluate:
    """(annotations beside a folder `images`, detector, category ids or none for all) -> a finished COCOeval."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def evaluate(annotations: Path, detect: Callable[[Path], Found], categories: Sequence[int] = ()) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO(str(annotations))
            results = [
                {
                    "image_id": image["id"],
                    "category_id": kind,
                    "score": score,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
                for image in truth.imgs.values()
                for kind, score, (x1, y1, x2, y2) in detect(annotations.parent / "images" / image["file_name"])
            ]
            evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
            if categories:
                evaluation.params.catIds = list(categories)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    return evaluate
