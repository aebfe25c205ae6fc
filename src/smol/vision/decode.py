"""From the bytes of a JPEG, PNG, WebP or GIF to upright RGB pixels.

The bytes are hostile until proven otherwise: the format is told by content, never by name or media
type, and the size is checked before a pixel is decoded. Of an animation only the first frame is
looked at. Colour profiles are not applied.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from smol.errors import InvalidArgument, ResourceExhausted

__all__ = ["DEFAULT_MAX_PIXELS", "Picture", "decode"]

DEFAULT_MAX_PIXELS = 50_000_000

_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
    )
)
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, table 4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_PIXELS = 1_000_000
_WHITE = (255, 255, 255, 255)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    image: upright RGB pixels, possibly fewer than the file has.
    width, height: of the upright picture as stored, in pixels.
    """

    image: Image.Image
    width: int
    height: int


def decode(
    data: bytes | bytearray | memoryview,
    *,
    enough: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Picture:
    """Decode a picture, turn it upright, lay transparency over white, and make it 8-bit RGB.

    enough: pixels on the shorter side that serve the purpose; a picture of at least twice that is
    decoded smaller (scaled DCT for JPEG, box averages for the rest), never below it. None keeps all.
    max_pixels: larger pictures are refused by their header alone.
    Raises InvalidArgument for what is not a complete picture of a known format, or too large;
    ResourceExhausted when memory does not suffice.
    """
    if not len(data):
        raise InvalidArgument("the picture is empty (0 bytes); send a JPEG, PNG, WebP or GIF")
    image = _open(data, max_pixels)
    width, height = image.size
    try:
        orientation = _orientation(image)
        if enough is not None:
            image.draft(None, (enough, enough))  # Only JPEG can; the others ignore it.
        image.load()
        image = _reduced(image, enough) if enough is not None else _to_rgb(image)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
    except MemoryError:
        raise ResourceExhausted(
            f"not enough memory to decode a picture of {width} x {height} pixels; send a smaller one"
        ) from None
    # Pillow's parsers raise nearly anything on damaged files: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise InvalidArgument(
            f"the {image.format or 'picture'} file of {len(data)} bytes is damaged or incomplete: {error}"
        ) from error
    if orientation >= 5:
        width, height = height, width
    return Picture(image, width, height)


def _open(data: bytes | bytearray | memoryview, max_pixels: int) -> Image.Image:
    """Read the header, and no more."""
    too_large = f"more than the {max_pixels / 1e6:g} megapixels allowed; scale it down before sending it"
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidArgument(f"the picture has {too_large}") from None
    except MemoryError:
        raise ResourceExhausted("not enough memory to read the picture's header") from None
    except Exception as error:  # As above: a damaged header surfaces as any error there is.
        raise InvalidArgument(
            f"{len(data)} bytes that are not a JPEG, PNG, WebP or GIF picture, starting with "
            f"{bytes(data[:8])!r}; convert the file to one of these"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidArgument(f"the picture has {width} x {height} pixels, {too_large}")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a damaged EXIF block is no reason to refuse the picture."""
    if image.format != "PNG" and "exif" not in image.info and "xmp" not in image.info:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except OSError:
        raise  # PNG decodes its pixels to get at a late EXIF block: the picture itself is damaged.
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _reduced(image: Image.Image, enough: int) -> Image.Image:
    """RGB, averaged over whole blocks of pixels.

    Goes strip by strip, so that a large palette, CMYK or transparent picture is never held a second
    time at full size.
    """
    factor = min(image.size) // max(1, enough)
    if factor < 2:
        return _to_rgb(image)
    width, height = image.size
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    strip_height = max(1, _STRIP_PIXELS // width // factor) * factor
    for top in range(0, height, strip_height):
        strip = _to_rgb(image.crop((0, top, width, min(height, top + strip_height))))
        small.paste(strip.reduce(factor), (0, top // factor))
    return small


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips instead of scaling.
        samples = np.asarray(image)
        image = Image.fromarray((samples >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, _WHITE)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
