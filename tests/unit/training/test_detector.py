"""What the detector is trained on: boxes stay on what they mark, and cells answer for the boxes they lie in."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra")

TRAINING = Path(__file__).parents[3] / "training"


def imported(name: str) -> Any:
    """A module of `training/`, which is no package."""
    if str(TRAINING) not in sys.path:
        sys.path.append(str(TRAINING))
    return importlib.import_module(name)


def scenes_of_a_red_square() -> Any:
    """Four grey pictures of 200 x 160, each with a red square somewhere, marked as a dog."""
    data = imported("data")
    images = torch.full((4, data.CANVAS, data.CANVAS, 3), 60, dtype=torch.uint8)
    boxes = torch.zeros(4, 2, 4)
    scores = torch.zeros(4, 2, len(data.TAUGHT_CLASSES))
    for index, (x, y, side) in enumerate([(20, 30, 60), (100, 40, 50), (10, 90, 64), (120, 80, 70)]):
        images[index, y : y + side, x : x + side] = torch.tensor([255, 0, 0], dtype=torch.uint8)
        boxes[index, 0] = torch.tensor([x, y, x + side, y + side])
        scores[index, 0, data.TAUGHT_CLASSES.index("dog")] = 1.0
    return data.Scenes(images, torch.tensor([[200, 160]] * 4), boxes, scores)


@pytest.mark.parametrize("mosaic_share", [0.0, 1.0])
def test_boxes_stay_on_what_they_mark(mosaic_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = imported("data")
    monkeypatch.setattr(data, "recolour", lambda views: views)
    torch.manual_seed(5)
    views, boxes, scores = data.augment(scenes_of_a_red_square(), np.array([0, 1, 2, 3] * 4), 128, mosaic_share)
    found = 0
    for view, corners, known in zip(views.numpy(), boxes.numpy(), scores.numpy(), strict=True):
        red = (view[..., 0] > 150) & (view[..., 1] < 40)
        inside = np.zeros_like(red)
        for x1, y1, x2, y2 in corners[known.max(axis=1) > 0].round().astype(int):
            assert red[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].all()
            inside[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = True
            found += 1
        # Slivers of squares that were cut off are not marked.
        assert (red & ~inside).sum() < 0.05 * red.size
    assert found >= 12


def test_each_box_is_answered_for_by_cells_within_it() -> None:
    train = imported("train_detect")
    torch.manual_seed(0)
    network = train.SmolDetect(2).eval()
    with torch.no_grad():
        logits, boxes, centres, strides = network.decode(torch.rand(1, 3, 128, 128))
    corners = torch.tensor([[[8.0, 8, 56, 72], [70, 70, 120, 120], [90, 4, 96, 10], [0, 0, 0, 0]]])
    scores = torch.tensor([[[1.0, 0], [0, 0.6], [1.0, 0], [0, 0]]])
    best, weight = train.assign(logits, boxes, centres, strides, corners, scores)
    answering = weight[0] > 0
    assert set(best[0][answering].tolist()) == {0, 1, 2}
    for index in (0, 1):
        x, y = centres[answering & (best[0] == index)].T
        x1, y1, x2, y2 = corners[0, index]
        assert ((x > x1) & (x < x2) & (y > y1) & (y < y2)).all()
        assert 1 <= len(x) <= train.CELLS_PER_BOX
    assert float(weight.max()) <= 1.0


def test_a_picture_without_boxes_gives_a_loss_of_scores_alone() -> None:
    train = imported("train_detect")
    network = train.SmolDetect(2).train()
    decoded = network.decode(torch.rand(2, 3, 64, 64))
    score_loss, box_loss = train.losses_of(*decoded, torch.zeros(2, 1, 4), torch.zeros(2, 1, 2))
    (score_loss + box_loss).backward()
    assert score_loss.item() > 0
    assert box_loss.item() == 0


def test_the_overlap_of_boxes_is_that_of_their_definition() -> None:
    train = imported("train_detect")
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 10])
    assert float(train.plain_overlap(a, b)) == pytest.approx(50 / 150)
    assert float(train.generalised_overlap(a, b)) == pytest.approx(50 / 150)
    apart = torch.tensor([20.0, 0, 30, 10])
    assert float(train.generalised_overlap(a, apart)) == pytest.approx(-(300 - 200) / 300)


def test_small_pictures_leave_the_statistics_of_use_alone() -> None:
    train = imported("train_detect")
    student = train.Student().train()
    before = {name: value.clone() for name, value in student.named_buffers() if "running" in name}
    student.recognise_small(torch.rand(4, 3, 64, 64) * 9).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in student.named_buffers() if name in before)
    student(torch.rand(2, 3, 64, 64))
    assert not all(torch.equal(value, before[name]) for name, value in student.named_buffers() if name in before)
