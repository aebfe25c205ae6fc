from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import InvalidArgument
from smol.sizes import LARGEST_BYTES, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1500MiB", 1500 * 2**20),
        ("24 MiB", 24 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("0.5B", 0),
        ("2GB", 2_000_000_000),
        ("3kB", 3000),
        ("7KiB", 7168),
        ("4096", 4096),
        (4096, 4096),
    ],
)
def test_a_size_is_read(text: str | int, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", -1, "1 mib", "1MiBs", "1e3", "٣", "1.GiB", "9" * 50, "2000000000GiB"]
)
def test_what_is_no_size_is_refused_with_its_value(text: str | int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


def test_a_boolean_is_no_size() -> None:
    with pytest.raises(InvalidArgument, match="True"):
        parse_bytes(True)


@given(st.integers(min_value=0, max_value=LARGEST_BYTES))
def test_a_written_size_reads_back_as_itself(size_bytes: int) -> None:
    assert parse_bytes(format_bytes(size_bytes)) == size_bytes


def test_the_largest_fitting_unit_is_written() -> None:
    assert [format_bytes(size) for size in (0, 1000, 1536, 2**20, 3 * 2**31)] == [
        "0",
        "1000",
        "1536",
        "1MiB",
        "6GiB",
    ]
