from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smol.errors import InvalidArgument
from smol.vision import decode

RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def near(pixel: Any, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.subtract(pixel, colour)).max() <= tolerance)


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_each_format_is_told_by_its_content(file_format: str) -> None:
    picture = decode(encoded(halves(), file_format))
    assert (picture.width, picture.height, picture.image.mode) == (40, 20, "RGB")
    assert near(picture.image.getpixel((4, 10)), RED)
    assert near(picture.image.getpixel((36, 10)), BLUE)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type[bytes]) -> None:
    assert decode(kind(encoded(halves(), "PNG"))).width == 40


@pytest.mark.parametrize(
    ("orientation", "red_at", "size"),
    [
        (1, (4, 10), (40, 20)), (2, (36, 10), (40, 20)), (3, (36, 10), (40, 20)), (4, (4, 10), (40, 20)),
        (5, (10, 4), (20, 40)), (6, (10, 4), (20, 40)), (7, (10, 36), (20, 40)), (8, (10, 36), (20, 40)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright(
    file_format: str, orientation: int, red_at: tuple[int, int], size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(halves(), file_format, exif=exif))
    assert (picture.width, picture.height) == picture.image.size == size
    assert near(picture.image.getpixel(red_at), RED)


def test_a_damaged_exif_block_does_not_hurt() -> None:
    assert decode(encoded(halves(), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff")).width == 40


def test_transparency_lies_over_white() -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (0, 0, 5, 10))
    pixels = decode(encoded(image, "PNG")).image
    assert pixels.getpixel((8, 5)) == (255, 255, 255)
    assert near(pixels.getpixel((2, 5)), (127, 127, 127), 1)


def test_a_transparent_palette_lies_over_white() -> None:
    image = halves().quantize(4)
    index = image.getpixel((36, 10))
    pixels = decode(encoded(image, "PNG", transparency=index)).image
    assert near(pixels.getpixel((36, 10)), (255, 255, 255))
    assert near(pixels.getpixel((4, 10)), RED)


def test_grey_with_alpha_lies_over_white() -> None:
    pixels = decode(encoded(Image.new("LA", (8, 8), (0, 64)), "PNG")).image
    assert near(pixels.getpixel((4, 4)), (191, 191, 191), 1)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    rows = b"".join(b"\x00" + struct.pack(">4H", 0, 0x4000, 0x8000, 0xFFFF) for _ in range(2))
    image = decode(png(4, 2, 16, 0, rows)).image
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 0x40, 0x80, 0xFF)]


def test_sixteen_bit_colour_is_scaled() -> None:
    rows = b"".join(b"\x00" + struct.pack(">3H", 0xFFFF, 0x8000, 0) for _ in range(2))
    assert decode(png(1, 2, 16, 2, rows)).image.getpixel((0, 0)) == (255, 128, 0)


def test_one_bit_pixels_are_black_and_white() -> None:
    assert decode(encoded(Image.new("1", (8, 8), 1), "PNG")).image.getpixel((0, 0)) == (255, 255, 255)


def test_printers_colours_become_screen_colours() -> None:
    pixels = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).image
    assert near(pixels.getpixel((8, 8)), (255, 0, 0), 5)


def test_a_large_photo_is_decoded_smaller_but_not_below_what_is_enough() -> None:
    picture = decode(encoded(halves((1600, 1200)), "JPEG"), enough=300)
    assert (picture.width, picture.height) == (1600, 1200)
    assert 300 <= min(picture.image.size) < 600


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_large_picture_of_any_mode_is_averaged_in_strips(mode: str) -> None:
    picture = decode(encoded(halves((3000, 2000)).convert(mode), "PNG"), enough=300)
    assert (picture.width, picture.height) == (3000, 2000)
    assert picture.image.size == (500, 334)
    expected = np.asarray(halves((3000, 2000)).convert(mode).convert("RGB").resize((500, 334))).astype(int)
    assert np.abs(np.asarray(picture.image).astype(int) - expected).mean() < 1


def test_only_the_first_of_ten_thousand_frames_is_looked_at() -> None:
    single = encoded(halves().quantize(4), "GIF")
    start = 13 + 3 * 2 ** ((single[10] & 7) + 1)
    frame = single[start:-1]
    movie = single[:start] + frame * 10_000 + b";"
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    picture = decode(movie)
    assert near(picture.image.getpixel((4, 10)), RED)
    assert peak_bytes() - before < len(movie) + 8_000_000


def test_a_bomb_is_refused_by_its_header_with_flat_memory() -> None:
    bomb = png(50_000, 50_000, 8, 2, b"\x00" * 100_000)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    with pytest.raises(InvalidArgument, match="50 megapixels"):
        decode(bomb)
    assert peak_bytes() - before < 8_000_000


def test_the_limit_counts_pixels_and_names_them() -> None:
    data = encoded(halves(), "PNG")
    assert decode(data, max_pixels=800).width == 40
    with pytest.raises(InvalidArgument, match=r"40 x 20 pixels.*0\.000799 megapixels"):
        decode(data, max_pixels=799)


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello, world", b"\xff\xd8\xff", b"GIF89a", b"BM" + bytes(60)])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode(data)


def test_a_format_that_is_not_offered_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="not a JPEG, PNG, WebP or GIF"):
        decode(encoded(halves(), "TIFF"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_file_is_refused(file_format: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), file_format)
    with pytest.raises(InvalidArgument):
        decode(data[: len(data) // 2])


@given(
    file_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    enough=st.sampled_from([None, 4]),
)
def test_damage_is_refused_or_survived(
    file_format: str, changes: list[tuple[int, int]], enough: int | None
) -> None:
    data = bytearray(encoded(halves(), file_format))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        picture = decode(data, enough=enough)
    except InvalidArgument:
        return
    assert picture.image.mode == "RGB"
