from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from smol.vision import annotate

GREY = Image.new("RGB", (200, 100), (128, 128, 128))


def reopened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def changed(data: bytes) -> npt.NDArray[np.bool_]:
    """Which pixels are not as grey as they were."""
    return np.asarray((np.asarray(reopened(data).convert("RGB")) != 128).any(axis=2))


def test_a_box_is_drawn_where_it_is_and_the_original_is_left_alone() -> None:
    marks = changed(annotate(GREY, [(50, 40, 150, 90)], ["cat 0.90"], [15], format="PNG"))
    assert marks[60, 50]
    assert marks[90, 100]
    assert not marks[65, 100]
    assert not marks[5, 190]
    assert GREY.getextrema() == ((128, 128),) * 3


def test_boxes_of_a_smaller_copy_are_scaled() -> None:
    marks = changed(annotate(GREY, [(100, 80, 300, 180)], ["cat"], [0], scale=0.5, format="PNG"))
    assert marks[60, 50]
    assert not marks[65, 100]


def test_a_large_picture_is_drawn_smaller() -> None:
    image = reopened(annotate(Image.new("RGB", (4096, 1024)), [(0, 0, 4096, 1024)], ["sea"], [1]))
    assert (image.format, image.size) == ("JPEG", (2048, 512))


def test_boxes_beyond_the_edge_and_foreign_letters_are_drawn_all_the_same() -> None:
    data = annotate(GREY, [(-20, -20, 500, 5), (199, 99, 200, 100)], ["猫 ñ", "x" * 200], [1, 79])
    assert reopened(data).size == (200, 100)


def test_nothing_found_is_the_picture_as_it_was() -> None:
    assert not changed(annotate(GREY, [], [], [], format="PNG")).any()
