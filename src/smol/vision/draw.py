"""Boxes and labels drawn on a picture, as the bytes of a file."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

__all__ = ["annotate"]

MAX_SIDE = 2048
_GOLDEN_RATIO = 0.618033988749895  # Steps of it around the colour wheel never come close to each other.


def annotate(
    image: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
    captions: Sequence[str],
    classes: Sequence[int],
    *,
    scale: float = 1.0,
    format: Literal["JPEG", "PNG"] = "JPEG",
) -> bytes:
    """A copy of the picture with boxes and captions, at most 2048 pixels on its longer side.

    boxes: x1, y1, x2, y2; scale: pixels of `image` per unit of the boxes; classes: choose the colours.
    """
    shrink = min(1.0, MAX_SIDE / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    canvas = image.resize(size, Image.Resampling.BILINEAR) if shrink < 1 else image.copy()
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(size) / 320))
    font = ImageFont.load_default(size=max(11, round(max(size) / 48)))
    for corners, caption, kind in zip(boxes, captions, classes, strict=True):
        x1, y1, x2, y2 = (value * scale * shrink for value in corners)
        colour = _colour(kind)
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
        left, top, right, bottom = pen.textbbox((0, 0), caption, font=font)
        high, wide = bottom - top + 2 * line, right - left + 2 * line
        x = min(max(0.0, x1), max(0.0, size[0] - wide))
        y = y1 - high if y1 >= high else y1
        pen.rectangle((x, y, x + wide, y + high), fill=colour)
        pen.text((x + line - left, y + line - top), caption, fill=(0, 0, 0), font=font)
    file = io.BytesIO()
    canvas.save(file, format, quality=90) if format == "JPEG" else canvas.save(file, format)
    return file.getvalue()


def _colour(kind: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(kind * _GOLDEN_RATIO % 1.0, 0.65, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
