"""A text as a vector: its words and their parts, hashed. Knows spelling, not meaning.

Feature hashing with signs (Weinberger et al., Feature Hashing for Large Scale Multitask Learning, 2009) of words
and of character n-grams within their boundaries (Bojanowski et al., Enriching Word Vectors with Subword
Information, 2017). Only operations that IEEE 754 rounds in one way: the same text has the same bits everywhere.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections import Counter, defaultdict
from hashlib import blake2b
from math import sqrt

import msgspec

__all__ = ["DIMENSIONS", "WEIGHTS", "Weights", "embed"]

DIMENSIONS = 512
"""At most, and by default."""
PART_CHARACTERS = 4
LONGEST_WORD = 12
"""A word counts by the square root of its length, up to so many characters: long words are rare, and say more."""
LONGEST_HASHED = 64
_WORD = re.compile(r"[^\W_]+")
_ANYTHING = re.compile(r"\S+")
_COMMON = frozenset({
    "the", "a", "an", "of", "to", "in", "is", "it", "that", "and", "or", "for", "on", "as", "with", "be",
    "are", "by", "this", "not", "from", "at", "if", "which", "its", "has", "have", "was", "were", "will",
    "can", "may", "but", "no", "so", "than", "then", "when", "what", "who", "all", "any", "each", "other",
    "into",
})  # fmt: skip


class Weights(msgspec.Struct, frozen=True):
    """What counts how much; chosen by `python -m benchmarks.embedding choose`.

    words: a word as a whole. parts: all n-grams of a word together. common: factor of the most common words of
    English.
    """

    words: float = 1.0
    parts: float = 2.0
    common: float = 0.1


WEIGHTS = Weights()


def embed(text: str, dimensions: int = DIMENSIONS, weights: Weights = WEIGHTS) -> list[float]:
    """A vector of length 1, of numbers that float32 holds exactly; zeros for a text of white space.

    Features are hashed to as many places as there are dimensions, so that fewer of these lose none of them.
    """
    totals: defaultdict[int, float] = defaultdict(float)
    for feature, weight in _features(text, weights):
        number = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
        totals[(number >> 1) % dimensions] += weight if number & 1 else -weight
    length = sqrt(sum(total * total for total in totals.values()))
    vector = [0.0] * dimensions
    for place, total in totals.items():
        vector[place] = total / length if length else 0.0
    form = f"<{dimensions}f"
    return list(struct.unpack(form, struct.pack(form, *vector)))


def _features(text: str, weights: Weights) -> list[tuple[str, float]]:
    """Words and n-grams, marked so that neither is taken for the other. Repetition counts by its square root."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    found: list[tuple[str, float]] = []
    for word, times in Counter(_WORD.findall(plain) or _ANYTHING.findall(plain)).items():
        weight = sqrt(times) * sqrt(min(len(word), LONGEST_WORD))
        if word in _COMMON:
            weight *= weights.common
        found.append((f"w{word[:LONGEST_HASHED]}", weight * weights.words))
        bounded = f"<{word}>"
        parts = [bounded[at : at + PART_CHARACTERS] for at in range(len(bounded) - PART_CHARACTERS + 1)]
        share = weight * weights.parts / sqrt(len(parts)) if parts else 0.0
        found += [(f"p{part}", share) for part in parts]
    return found
