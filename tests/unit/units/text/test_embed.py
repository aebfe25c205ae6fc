"""Vectors of texts: the same everywhere, near where spelling is, and of no text that has nothing in it."""

from __future__ import annotations

import hashlib
import math
import struct
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import InvalidArgument
from smol.sdk.schema import operations_of
from smol.units.text.embedding import DIMENSIONS, embed
from smol.units.text.unit import LONGEST_TEXT, MODEL, MOST_TEXTS, Text

SENTENCE = "A name is resolved once, and the very address that was checked is connected to."


def near(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(embed(a), embed(b), strict=True))


def test_a_vector_has_the_same_bits_on_every_machine_and_python() -> None:
    packed = struct.pack("<512f", *embed(SENTENCE + " Ünïcode ﬁle ß 東京 ½"))
    assert hashlib.sha256(packed).hexdigest() == "2138d9b91c2725af0678831f885775e54a3edd139865346e8984bcd207770028"


def test_what_shares_words_and_parts_of_words_is_near() -> None:
    assert near("How do I resize a photo?", "resizing photos") > near("How do I resize a photo?", "boiling an egg")
    assert near("memory budget", "memmory budgets") > 0.3
    assert near("Straße FILE №5", "strasse file no5") == pytest.approx(1, abs=1e-6)
    assert near("snake_case_name", "name case snake") == pytest.approx(1, abs=1e-6)


def test_meaning_is_not_known() -> None:
    assert abs(near("car", "automobile")) < 0.2


def test_the_most_common_words_hardly_count() -> None:
    assert near("the cat of the house", "the dog of the street") < 0.2
    assert near("the cat of the house", "cat house") > 0.9


@given(st.text(min_size=1, max_size=60), st.sampled_from([1, 2, 7, 64, 511, DIMENSIONS]))
def test_every_text_has_a_vector_of_length_one(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    length = sum(number * number for number in vector)
    assert length == pytest.approx(1, abs=1e-5) or length == 0
    if dimensions == DIMENSIONS:
        assert (length > 0) == bool(text.strip())
    assert vector == list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *vector)))


def test_a_sentence_takes_less_than_a_millisecond() -> None:
    best = math.inf
    for _ in range(20):
        started = time.perf_counter()
        embed(SENTENCE)
        best = min(best, time.perf_counter() - started)
    assert best < 0.001


def test_the_operation_keeps_the_order_and_names_the_model() -> None:
    found = Text().embed(["one", "two"], 64)
    assert found.vectors == [embed("one", 64), embed("two", 64)]
    assert found.model == MODEL


@pytest.mark.parametrize("texts", [[""], ["fine", " \n\t"], ["\u3000"]])
def test_a_text_of_nothing_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidArgument, match=rf"texts\[{len(texts) - 1}\] is empty"):
        Text().embed(texts)


@pytest.mark.parametrize(
    "arguments",
    [
        {"texts": []},
        {"texts": ["x"] * (MOST_TEXTS + 1)},
        {"texts": ["x" * (LONGEST_TEXT + 1)]},
        {"texts": ["x"], "dimensions": 0},
        {"texts": ["x"], "dimensions": DIMENSIONS + 1},
        {"texts": [1]},
    ],
)
def test_what_is_out_of_bounds_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        operations_of(Text(), "text")["embed"].decode(msgspec.Raw(msgspec.json.encode(arguments)), [])


def test_the_largest_answer_fits_into_one_message() -> None:
    # 1 MiB of header (docs/reference/wire.md)
    texts = [" ".join(f"{n}word{n * k}" for n in range(400)) for k in range(MOST_TEXTS)]
    assert len(msgspec.json.encode(Text().embed(texts))) < 1 << 20
