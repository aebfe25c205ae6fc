from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from smol.vision import HEADS, Boxes, suppress

SIDE = 64


def boxes(*rows: tuple[list[float], float, int]) -> Boxes:
    return Boxes(
        np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float32),
        np.array([row[2] for row in rows], dtype=np.intp),
    )


def nanodet_output() -> npt.NDArray[np.float32]:
    """One object: stride 8, column 3, row 2, distances 1, 2, 3, 4 strides."""
    output = np.zeros((1, 64 + 16 + 4 + 1, 80 + 32), dtype=np.float32)
    output[..., 80:] = -50
    row = output[0, 2 * 8 + 3]
    row[7] = 0.9
    for side, distance in enumerate((1, 2, 3, 4)):
        row[80 + side * 8 + distance] = 50
    return output


def test_nanodet_boxes_are_distances_from_the_corner_of_the_cell() -> None:
    found = HEADS["nanodet_plus"](nanodet_output(), SIDE, SIDE, 0.5)
    assert found.corners.tolist() == [[24 - 8, 16 - 16, 24 + 24, 16 + 32]]
    assert (found.classes.tolist(), found.scores.tolist()) == ([7], [pytest.approx(0.9)])


def test_a_nanodet_cell_may_hold_two_classes() -> None:
    output = nanodet_output()
    output[0, 19, 40] = 0.6
    assert sorted(HEADS["nanodet_plus"](output, SIDE, SIDE, 0.5).classes.tolist()) == [7, 40]


def test_yolox_boxes_are_centres_and_log_sizes_in_strides() -> None:
    output = np.zeros((1, 64 + 16 + 4, 85), dtype=np.float32)
    output[0, 64 + 1 * 4 + 2, :5] = [0.5, 0.25, np.log(2), np.log(1), 0.8]
    output[0, 64 + 1 * 4 + 2, 5 + 33] = 0.75
    found = HEADS["yolox"](output, SIDE, SIDE, 0.5)
    assert found.corners[0].tolist() == pytest.approx([40 - 16, 20 - 8, 40 + 16, 20 + 8])
    assert (found.classes.tolist(), found.scores.tolist()) == ([33], [pytest.approx(0.6)])
    assert not len(HEADS["yolox"](output, SIDE, SIDE, 0.61).scores)


def test_fastestdet_boxes_are_fractions_of_the_picture() -> None:
    output = np.zeros((1, 85, 4, 4), dtype=np.float32)
    output[0, :5, 1, 2] = [1.0, np.arctanh(0.5), 0.0, 0.0, -np.log(3)]
    output[0, 5 + 11, 1, 2] = 0.5
    found = HEADS["fastestdet"](output, SIDE, SIDE, 0.5)
    assert found.corners[0].tolist() == pytest.approx([40 - 16, 16 - 8, 40 + 16, 16 + 8], rel=1e-5)
    assert (found.classes.tolist(), found.scores.tolist()) == ([11], [pytest.approx(0.5**0.4)])


def test_decoded_boxes_are_taken_as_they_are_with_their_best_class() -> None:
    output = np.zeros((1, 84, 4 + 3), dtype=np.float32)
    output[0, 5] = [-2.0, 3.0, 40.0, 70.0, 0.2, 0.1, 0.6]
    output[0, 9] = [1.0, 1.0, 9.0, 9.0, 0.3, 0.4, 0.35]
    found = HEADS["decoded"](output, SIDE, SIDE, 0.5)
    assert found.corners.tolist() == [[-2.0, 3.0, 40.0, 70.0]]
    assert (found.classes.tolist(), found.scores.tolist()) == ([2], [pytest.approx(0.6)])
    assert HEADS["decoded"](output, SIDE, SIDE, 0.35).classes.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("decoded", (1, 84, 12)),
        ("nanodet_plus", (1, 85, 112)),
        ("yolox", (1, 84, 85)),
        ("fastestdet", (1, 85, 4, 4)),
    ],
)
def test_nothing_above_the_threshold_is_no_box(head: str, shape: tuple[int, ...]) -> None:
    found = suppress(HEADS[head](np.zeros(shape, dtype=np.float32), SIDE, SIDE, 0.3), 0.5, 10)
    assert found.corners.shape == (0, 4)
    assert len(found.scores) == len(found.classes) == 0


def test_a_flood_of_candidates_is_bounded_to_the_best() -> None:
    output = np.random.default_rng(3).random((1, 85, 112), dtype=np.float32)
    found = HEADS["nanodet_plus"](output, SIDE, SIDE, 0.0)
    assert len(found.scores) == 1000
    assert found.scores.min() >= np.sort(output[0, :, :80].ravel())[-1000]


def test_of_two_boxes_of_a_class_in_one_place_the_better_stays() -> None:
    found = suppress(boxes(([0, 0, 10, 10], 0.5, 1), ([1, 0, 11, 10], 0.9, 1)), 0.5, 10)
    assert found.scores.tolist() == [pytest.approx(0.9)]


def test_boxes_of_different_classes_never_suppress_each_other() -> None:
    found = suppress(boxes(([0, 0, 10, 10], 0.5, 1), ([0, 0, 10, 10], 0.9, 2)), 0.5, 10)
    assert found.classes.tolist() == [2, 1]


def test_overlap_up_to_the_limit_is_allowed() -> None:
    pair = boxes(([0, 0, 10, 10], 0.9, 0), ([0, 5, 10, 15], 0.8, 0))  # One third.
    assert len(suppress(pair, 0.34, 10).scores) == 2
    assert len(suppress(pair, 0.33, 10).scores) == 1


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = boxes(([0, 0, 10, 10], 0.9, 0), ([0, 4, 10, 14], 0.8, 0), ([0, 8, 10, 18], 0.7, 0))
    assert suppress(chain, 0.4, 10).scores.tolist() == pytest.approx([0.9, 0.7])


def test_no_more_than_asked_for_are_kept() -> None:
    many = boxes(*[([i * 20.0, 0.0, i * 20.0 + 10, 10.0], 0.1 * i, 0) for i in range(1, 9)])
    assert suppress(many, 0.5, 3).scores.tolist() == pytest.approx([0.8, 0.7, 0.6])


def test_suppression_agrees_with_the_definition() -> None:
    random = np.random.default_rng(4)
    low = random.random((120, 2)) * 50
    corners = np.concatenate((low, low + 5 + random.random((120, 2)) * 30), axis=1).astype(np.float32)
    given = Boxes(corners, random.random(120).astype(np.float32), random.integers(0, 3, 120))
    kept: list[int] = []
    for i in np.argsort(-given.scores):
        rivals = [j for j in kept if given.classes[j] == given.classes[i]]
        if all(overlap(corners[i], corners[j]) <= 0.5 for j in rivals):
            kept.append(int(i))
    assert suppress(given, 0.5, 1000).scores.tolist() == given.scores[kept].tolist()


def overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))
