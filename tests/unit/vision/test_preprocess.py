from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from smol.errors import InvalidArgument
from smol.vision import Picture, Preprocessor
from smol.vision.preprocess import Channels, Fit


def plain(width: int, height: int, colour: tuple[int, int, int] = (10, 20, 30)) -> Picture:
    return Picture(Image.new("RGB", (width, height), colour), width, height)


def prepare(fit: Fit, *, channels: Channels = "rgb", pad: int = 0) -> Preprocessor:
    return Preprocessor(width=8, height=8, fit=fit, channels=channels, pad=pad, crop_fraction=0.5)


def test_channels_come_in_the_order_asked_for() -> None:
    rgb, _ = prepare("stretch")(plain(8, 8))
    bgr, _ = prepare("stretch", channels="bgr")(plain(8, 8))
    assert rgb.shape == (1, 3, 8, 8)
    assert rgb.dtype == np.float32
    assert rgb[0, :, 0, 0].tolist() == [10, 20, 30]
    assert bgr[0, :, 0, 0].tolist() == [30, 20, 10]


def test_each_channel_has_its_own_mean_and_scale() -> None:
    preprocessor = Preprocessor(width=4, height=4, fit="stretch", channels="bgr", mean=(30, 10, 0), std=(1, 2, 5))
    tensor, _ = preprocessor(plain(4, 4))
    assert tensor[0, :, 1, 1].tolist() == pytest.approx([0, 5, 2])


def test_stretching_maps_the_corners_onto_the_corners() -> None:
    _, placement = prepare("stretch")(plain(160, 40))
    boxes = placement.to_picture(np.array([[0, 0, 8, 8], [2, 2, 4, 6]], dtype=np.float32))
    assert boxes.tolist() == [[0, 0, 160, 40], [40, 10, 80, 30]]


def test_the_corner_fit_keeps_the_aspect_ratio_and_pads() -> None:
    tensor, placement = prepare("corner", pad=114)(plain(16, 8))
    assert tensor[0, 0, :4].min() == tensor[0, 0, :4].max() == 10
    assert tensor[0, :, 4:].min() == tensor[0, :, 4:].max() == 114
    assert placement.to_picture(np.array([[0, 0, 8, 4]], dtype=np.float32)).tolist() == [[0, 0, 16, 8]]


def test_the_crop_takes_the_centre_of_the_shorter_side() -> None:
    picture = plain(64, 32)
    picture.image.paste((200, 200, 200), (24, 8, 40, 24))  # Exactly the part that is to be seen.
    tensor, placement = prepare("crop")(picture)
    assert tensor[0, 0, 1:-1, 1:-1].min() == 200
    assert placement.to_picture(np.array([[0, 0, 8, 8]], dtype=np.float32)).tolist() == [[24, 8, 40, 24]]


def test_a_crop_without_scaling_moves_no_pixel() -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (16, 21, 3), dtype=np.uint8)
    tensor, _ = prepare("crop")(Picture(Image.fromarray(pixels), 21, 16))
    assert np.array_equal(tensor[0].transpose(1, 2, 0), pixels[4:12, 6:14])


def test_boxes_are_clipped_to_the_picture() -> None:
    _, placement = prepare("stretch")(plain(80, 80))
    assert placement.to_picture(np.array([[-3, 2, 9, 99]], dtype=np.float32)).tolist() == [[0, 20, 80, 80]]


@pytest.mark.parametrize("fit", ["stretch", "corner", "crop"])
def test_a_picture_that_was_decoded_smaller_gives_boxes_of_the_original(fit: Fit) -> None:
    whole = plain(160, 120)
    smaller = Picture(whole.image.resize((80, 60)), 160, 120)
    box = np.array([[1, 2, 5, 6]], dtype=np.float32)
    expected = prepare(fit)(whole)[1].to_picture(box)
    assert prepare(fit)(smaller)[1].to_picture(box) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
@pytest.mark.parametrize("fit", ["stretch", "corner", "crop"])
def test_a_sliver_of_a_picture_still_fits(fit: Fit, size: tuple[int, int]) -> None:
    tensor, _ = prepare(fit)(plain(*size))
    assert np.isfinite(tensor).all()


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Preprocessor(width=8, height=8, fit="stretch", channels="rgb", std=(1, 0, 1))


@pytest.mark.parametrize("side", [32, 160, 224])
def test_a_crop_of_all_that_fits_starts_inside_pictures_of_any_size(side: int) -> None:
    whole = Preprocessor(width=side, height=side, fit="crop", channels="rgb", crop_fraction=1.0)
    for width in range(240, 400, 3):
        for height in (256, width):
            tensor, placement = whole(plain(width, height))
            assert tensor.shape == (1, 3, side, side)
            assert max(placement.offset_x, placement.offset_y) <= 0
