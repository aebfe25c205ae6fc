"""From a picture to the tensor a network wants, and from the network's pixels back to the picture's.

Each network was trained with one way of fitting pictures into its input, one colour order and one
scale; a wrong one costs accuracy without any error, so all are explicit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from smol.errors import InvalidArgument
from smol.vision.decode import Picture

__all__ = ["Channels", "Fit", "Placement", "Preprocessor"]

Fit: TypeAlias = Literal["stretch", "corner", "crop"]
"""stretch: ignore the aspect ratio; corner: keep it, picture top left, rest padded;
crop: keep it, centre square of the shorter side times `crop_fraction`."""
Channels: TypeAlias = Literal["rgb", "bgr"]

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the picture lies in the network's input: input = picture * scale + offset, in pixels."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    width: int
    height: int

    def to_picture(self, boxes: FloatArray) -> FloatArray:
        """Boxes [n, 4] x1, y1, x2, y2 of input pixels as pixels of the picture, clipped to it."""
        offset = np.array([self.offset_x, self.offset_y] * 2, dtype=np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        limit = np.array([self.width, self.height] * 2, dtype=np.float32)
        inside: FloatArray = np.minimum(np.maximum((boxes - offset) / scale, 0), limit)
        return inside


class Preprocessor:
    """Makes the float32 NCHW input [1, 3, height, width] of one network.

    mean, std: of each channel in the order of `channels`, in units of 0 to 255: (x - mean) / std.
    pad: value 0 to 255 for what the picture does not cover.
    crop_fraction: part of the shorter side that `crop` keeps.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fit: Fit,
        channels: Channels,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
        pad: int = 0,
        crop_fraction: float = 0.875,
    ) -> None:
        if width < 1 or height < 1 or 0.0 in std:
            raise InvalidArgument(f"an input of {width} x {height} pixels with std {std} can't be made")
        self.width, self.height, self.fit, self.channels = width, height, fit, channels
        self.pad, self.crop_fraction = pad, crop_fraction
        self._factor = [np.float32(1.0 / value) for value in std]
        self._shift = [np.float32(-m / s) for m, s in zip(mean, std, strict=True)]

    @property
    def enough(self) -> int:
        """Pixels on the shorter side of a picture beyond which there is nothing to gain."""
        side = max(self.width, self.height)
        return round(side / self.crop_fraction) if self.fit == "crop" else side

    def __call__(self, picture: Picture) -> tuple[FloatArray, Placement]:
        """The input tensor, and where the picture lies in it."""
        image, placement = self._fitted(picture)
        planes = image.split()
        if self.channels == "bgr":
            planes = planes[::-1]
        tensor = np.empty((1, 3, self.height, self.width), dtype=np.float32)
        for target, plane, factor, shift in zip(tensor[0], planes, self._factor, self._shift, strict=True):
            np.multiply(np.asarray(plane), factor, out=target)
            if shift:
                target += shift
        return tensor, placement

    def _fitted(self, picture: Picture) -> tuple[Image.Image, Placement]:
        image, full_width, full_height = picture.image, picture.width, picture.height
        size = (self.width, self.height)
        if self.fit == "stretch":
            resized = image.resize(size, Image.Resampling.BILINEAR)
            placement = Placement(
                self.width / full_width, self.height / full_height, 0.0, 0.0, full_width, full_height
            )
        elif self.fit == "corner":
            scale = min(self.width / full_width, self.height / full_height)
            inner = (max(1, int(full_width * scale)), max(1, int(full_height * scale)))
            resized = Image.new("RGB", size, (self.pad, self.pad, self.pad))
            resized.paste(image.resize(inner, Image.Resampling.BILINEAR))
            placement = Placement(inner[0] / full_width, inner[1] / full_height, 0.0, 0.0, full_width, full_height)
        else:
            resized, placement = self._cropped(picture)
        return resized, placement

    def _cropped(self, picture: Picture) -> tuple[Image.Image, Placement]:
        """Cut and scale in one step: pixels outside the centre are never touched.

        The cut starts on a whole pixel of the result: half a pixel blurs, and costs a point of accuracy.
        """
        image = picture.image
        scale = max(self.width / image.width, self.height / image.height) / self.crop_fraction
        width, height = self.width / scale, self.height / scale
        # Rounding may make a margin of nothing negative.
        left = max(0.0, (image.width * scale - self.width) // 2 / scale)
        top = max(0.0, (image.height * scale - self.height) // 2 / scale)
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        resized = image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=box)
        placement = Placement(
            scale * image.width / picture.width,
            scale * image.height / picture.height,
            -left * scale,
            -top * scale,
            picture.width,
            picture.height,
        )
        return resized, placement
