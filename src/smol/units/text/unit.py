"""The operation on texts."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from smol.errors import InvalidArgument
from smol.sdk import Unit, operation
from smol.units.text.embedding import DIMENSIONS, embed

__all__ = ["LONGEST_TEXT", "MODEL", "MOST_TEXTS", "Dimensions", "Embedded", "Text"]

MODEL = "smol-embed"
MOST_TEXTS = 64
"""Of one call: their vectors fit into one message."""
LONGEST_TEXT = 100_000
"""In characters."""

Dimensions: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=DIMENSIONS)]
SomeText: TypeAlias = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of texts, in their order, each of length 1. model: what made them; others' can't be compared."""

    vectors: list[list[float]]
    model: str


class Text(Unit):
    """Vectors of texts by their words and spelling, not by their meaning."""

    @operation(read_only=True)
    def embed(
        self,
        texts: Annotated[list[SomeText], msgspec.Meta(min_length=1, max_length=MOST_TEXTS)],
        dimensions: Dimensions = DIMENSIONS,
    ) -> Embedded:
        """Make vectors of texts, whose dot product is near 1 where they share words and parts of words.

        They know spelling and not meaning: "cars" is near "car", and "automobile" is not.

        texts: each of at most 100,000 characters.
        dimensions: of each vector; vectors of different dimensions can't be compared.
        """
        for index, text in enumerate(texts):
            if not text.strip():
                raise InvalidArgument(f"texts[{index}] is empty: there is nothing to embed")
        return Embedded(vectors=[embed(text, dimensions) for text in texts], model=MODEL)
