"""From the raw output of a detector to boxes: the heads of known networks, and suppression of doubles.

All heads throw away by threshold first, and work on what is left: with a threshold of 0.3 or more
that is a handful of thousands. Boxes are x1, y1, x2, y2 in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["HEADS", "Boxes", "Head", "suppress"]

FloatArray: TypeAlias = npt.NDArray[np.float32]
IndexArray: TypeAlias = npt.NDArray[np.intp]

MAX_CANDIDATES = 1000
"""Boxes that enter suppression, best first, as in the evaluation of NanoDet and YOLOX."""


class Boxes(NamedTuple):
    """corners [n, 4] float32, scores [n] float32 of 0 to 1, classes [n] indices into the labels."""

    corners: FloatArray
    scores: FloatArray
    classes: IndexArray


Head: TypeAlias = Callable[[FloatArray, int, int, float], Boxes]
"""(first output of the network, input width, input height, threshold) -> boxes above the threshold."""


def nanodet_plus(output: FloatArray, width: int, height: int, threshold: float) -> Boxes:
    """Head of NanoDet-Plus: [1, n, classes + 4 * 8], scores after sigmoid, then distance logits.

    Each side is the mean of a distribution over 8 bins (generalized focal loss, Li et al. 2020),
    in strides from the cell's own corner: there is no half-cell offset. One box may carry
    more than one class.
    """
    rows = output[0]
    scores = rows[:, :-32]
    cells, classes = np.nonzero(scores > threshold)
    kept = scores[cells, classes]
    cells, classes, kept = _best(cells, classes, kept)
    origin, stride = _grid(width, height, (8, 16, 32, 64))
    logits = rows[cells, -32:].reshape(-1, 4, 8)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    distance = weights @ np.arange(8, dtype=np.float32) / weights.sum(axis=2) * stride[cells]
    centre = origin[cells] * stride[cells]
    corners = np.concatenate((centre - distance[:, :2], centre + distance[:, 2:]), axis=1)
    return Boxes(corners, kept, classes)


def yolox(output: FloatArray, width: int, height: int, threshold: float) -> Boxes:
    """Head of YOLOX: [1, n, 5 + classes]: centre, log size, objectness and class scores after sigmoid.

    Score is objectness times the best class.
    """
    rows = output[0]
    cells = np.flatnonzero(rows[:, 4] > threshold)  # A class score of at most 1 can't lift it above.
    classes, kept = _best_class(rows[cells, 5:])
    kept = kept * rows[cells, 4]
    above = kept > threshold
    cells, classes, kept = _best(cells[above], classes[above], kept[above])
    origin, stride = _grid(width, height, (8, 16, 32))
    centre = (rows[cells, :2] + origin[cells]) * stride[cells]
    half = np.exp(np.minimum(rows[cells, 2:4], 20.0)) * stride[cells] / 2
    return Boxes(np.concatenate((centre - half, centre + half), axis=1), kept, classes)


def fastestdet(output: FloatArray, width: int, height: int, threshold: float) -> Boxes:
    """Head of FastestDet: [1, 5 + classes, rows, columns]: objectness, x, y, w, h, class probabilities.

    Score is objectness^0.6 * class^0.4; the cell's offset goes through tanh, sizes through sigmoid.
    """
    _, channels, row_count, column_count = output.shape
    rows = output[0].reshape(channels, -1).T
    # With a class probability of at most 1, objectness below this can't reach the threshold.
    cells = np.flatnonzero(rows[:, 0] > threshold ** (1 / 0.6))
    classes, probability = _best_class(rows[cells, 5:])
    kept = rows[cells, 0] ** np.float32(0.6) * probability ** np.float32(0.4)
    above = kept > threshold
    cells, classes, kept = _best(cells[above], classes[above], kept[above])
    place = np.stack((cells % column_count, cells // column_count), axis=1).astype(np.float32)
    scale = np.array([width, height], dtype=np.float32)
    grid = np.array([column_count, row_count], dtype=np.float32)
    centre = (np.tanh(rows[cells, 1:3]) + place) / grid * scale
    half = scale / (1 + np.exp(-rows[cells, 3:5])) / 2
    return Boxes(np.concatenate((centre - half, centre + half), axis=1), kept, classes)


def decoded(output: FloatArray, width: int, height: int, threshold: float) -> Boxes:
    """Head of networks that decode their boxes themselves: [1, n, 4 + classes], probabilities after corners.

    One box has one class, its best. Corners that reach out of the input are left as they are.
    """
    rows = output[0]
    classes, kept = _best_class(rows[:, 4:])
    cells = np.flatnonzero(kept > threshold)
    cells, classes, kept = _best(cells, classes[cells], kept[cells])
    return Boxes(rows[cells, :4], kept, classes)


HEADS: Mapping[str, Head] = {
    "decoded": decoded,
    "nanodet_plus": nanodet_plus,
    "yolox": yolox,
    "fastestdet": fastestdet,
}


def suppress(boxes: Boxes, max_overlap: float, max_count: int) -> Boxes:
    """Greedy class-wise non-maximum suppression, best first.

    max_overlap: intersection over union beyond which the lower score of one class goes.
    """
    if not len(boxes.scores):
        return boxes
    order = np.argsort(-boxes.scores, kind="stable")
    corners, classes = boxes.corners[order], boxes.classes[order]
    # Far apart, boxes of different classes never overlap: one pass serves all classes.
    span = float(corners.max() - corners.min()) + 1.0
    shifted = corners + (classes * span).astype(np.float32)[:, None]
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    waiting = np.arange(len(order))
    kept: list[int] = []
    while len(waiting) and len(kept) < max_count:
        first, rest = waiting[0], waiting[1:]
        kept.append(int(first))
        low = np.maximum(shifted[first, :2], shifted[rest, :2])
        high = np.minimum(shifted[first, 2:], shifted[rest, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        waiting = rest[shared <= max_overlap * (area[first] + area[rest] - shared)]
    return Boxes(corners[kept], boxes.scores[order[kept]], classes[kept])


def _best_class(probabilities: FloatArray) -> tuple[IndexArray, FloatArray]:
    classes = probabilities.argmax(axis=1)
    return classes, probabilities[np.arange(len(classes)), classes]


def _best(cells: IndexArray, classes: IndexArray, scores: FloatArray) -> tuple[IndexArray, IndexArray, FloatArray]:
    if len(scores) <= MAX_CANDIDATES:
        return cells, classes, scores
    top = np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES]
    return cells[top], classes[top], scores[top]


@lru_cache(maxsize=16)
def _grid(width: int, height: int, strides: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Column and row [n, 2] and stride [n, 1] of each cell, levels in the order of `strides`."""
    places, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)]
        places.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        steps.append(np.full((rows.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(steps).astype(np.float32)
