"""Sizes in bytes as people write them: `"24MiB"`, `"1.5 GB"`, `4096`.

Covers reading and writing of sizes, and the annotation that lets a settings table hold either form.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, TypeAlias

import msgspec

from smol.errors import InvalidArgument

__all__ = ["GIB", "KIB", "MIB", "Size", "format_bytes", "parse_bytes"]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

FACTORS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
}
LARGEST_BYTES = 1 << 60

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BYTES, extra={"size": True})]
"""A number of bytes. A table read by `smol.tables` may also write it as `parse_bytes` takes it."""


def parse_bytes(value: str | int) -> int:
    """The bytes that `value` says: a count, or a number with B, kB, MB, GB, KiB, MiB or GiB.

    A part of a byte is dropped. Raises `InvalidArgument`.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidArgument(f"expected a size such as '24MiB' or 4096, got {value!r}")
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", str(value).strip(), re.ASCII)
    factor = FACTORS.get(match[2]) if match else None
    if match is None or factor is None:
        raise InvalidArgument(
            f"expected a size such as '24MiB' or 4096, got {value!r}; units are B, kB, MB, GB, KiB, MiB, GiB"
        )
    size_bytes = int(Decimal(match[1]) * factor)
    if size_bytes > LARGEST_BYTES:
        raise InvalidArgument(f"the size {value!r} is larger than 1 EiB")
    return size_bytes


def format_bytes(size_bytes: int) -> str:
    """The shortest exact form: `24MiB`, `1536KiB`, `1000`. `parse_bytes` reads it back."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
