"""How well `text.embed` finds a text by a sentence taken out of it, beside BM25 and the bare overlap of words.

Texts: docstrings of Python's standard library without their first sentence, which is the query; sections of docs/
without their second sentence. The same with half of the queries' longer words misspelt: two letters in the middle
change places. `python -m benchmarks.embedding choose` shows weights on one half of the library's modules, and
`measure` quotes the other half. Figures change with Python's version and with the docs.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import random
import re
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import Figure, median
from smol.units.text.embedding import DIMENSIONS, WEIGHTS, Weights, embed

__all__ = ["measure"]

Pair = tuple[str, str]
"""A query, and the text that it was taken out of."""
Scores = npt.NDArray[np.float64]
"""Of each query (row) for each text (column); the right text of query i is text i."""

ROOT = Path(__file__).parents[1]
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\n")
_LEFT_OUT = frozenset({"antigravity", "this", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo"})


def measure() -> list[Figure]:
    """Texts found at the first place and among the first ten, and the time of one sentence."""
    figures = []
    for name, pairs in (("library", _library(quoted=True)), ("docs", _sections())):
        for asked, given in (("", pairs), (", misspelt", _misspelt(pairs))):
            for method, scores in (
                ("smol-embed", _embedded(given)),
                ("BM25", _bm25(given)),
                ("words", _overlap(given)),
            ):
                first, ten = _found(scores)
                title = f"{name}{asked}: {method}"
                figures.append(Figure(f"{title}, first", first * 100, "%", note=f" {len(pairs)} texts"))
                figures.append(Figure(f"{title}, in ten", ten * 100, "%"))
    figures.append(Figure("a sentence of 16 words", _sentence_ms(), "ms", 1.0))
    return figures


def choose() -> None:
    """Print what weights come to, on the half of the library that is not quoted."""
    pairs = _library(quoted=False)
    misspelt = _misspelt(pairs)
    print(f"{len(pairs)} texts; share in the first ten places, and of misspelt queries")
    for words, parts in ((1, 0), (1, 1), (1, 2), (1, 3), (0, 1)):
        for common in (1.0, 0.3, 0.1):
            weights = Weights(words, parts, common)
            shares = [_found(_embedded(each, weights))[1] for each in (pairs, misspelt)]
            chosen = " (chosen)" if weights == WEIGHTS else ""
            print(f"words {words} parts {parts} common {common}: {shares[0]:.1%} {shares[1]:.1%}{chosen}")
    for dimensions in (512, 256, 128, 64):
        folded = _found(_embedded(pairs, dimensions=dimensions))[1]
        cut = _found(_embedded(pairs, keep=dimensions))[1]
        print(f"{dimensions} dimensions: hashed to them {folded:.1%}, cut from {DIMENSIONS} {cut:.1%}")


# Texts ------------------------------------------------------------------------------------------


def _library(quoted: bool) -> list[Pair]:
    found: dict[Pair, None] = {}
    names = sorted(
        module.name
        for module in pkgutil.iter_modules([str(Path(inspect.__file__).parent)])
        if not module.name.startswith("_") and module.name not in _LEFT_OUT
    )
    for name in names:
        if (zlib.crc32(name.encode()) % 2 == 0) == quoted:
            found |= dict.fromkeys(_docstrings(name))
    return list(found)


def _docstrings(module_name: str) -> Iterator[Pair]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(module_name)
    except ImportError:
        return
    for _, member in sorted(vars(module).items()):
        inner = [value for _, value in sorted(vars(member).items())] if inspect.isclass(member) else []
        for each in (member, *inner):
            text = getattr(each, "__doc__", None)
            if callable(each) and isinstance(text, str) and getattr(each, "__module__", "") == module_name:
                first, *rest = _SENTENCE_END.split(inspect.cleandoc(text), maxsplit=1)
                if rest and len(first.split()) >= 4 and len(rest[0].split()) >= 8:
                    yield first, rest[0]


def _sections() -> list[Pair]:
    found = []
    for page in sorted(ROOT.glob("docs/**/*.md")):
        for section in re.split(r"\n(?=#+ )", page.read_text()):
            plain = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
            sentences = [
                text for text in _SENTENCE_END.split(plain) if 6 <= len(text.split()) <= 40 and "|" not in text
            ]
            if len(sentences) >= 3:
                found.append((sentences[1], section.replace(sentences[1], " ")))
    return found


def _misspelt(pairs: list[Pair]) -> list[Pair]:
    chance = random.Random(1)

    def change(word: str) -> str:
        if len(word) < 5 or chance.random() < 0.5:
            return word
        at = chance.randrange(1, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return [(" ".join(map(change, query.split())), text) for query, text in pairs]


# Ways to find them ------------------------------------------------------------------------------


def _embedded(
    pairs: list[Pair], weights: Weights = WEIGHTS, dimensions: int = DIMENSIONS, keep: int = DIMENSIONS
) -> Scores:
    def rows(texts: list[str]) -> Scores:
        vectors = np.array([embed(text, dimensions, weights)[:keep] for text in texts])
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]

    return rows([query for query, _ in pairs]) @ rows([text for _, text in pairs]).T  # type: ignore[no-any-return]


def _bm25(pairs: list[Pair]) -> Scores:
    """Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009; k1 = 1.2, b = 0.75."""
    texts = [Counter(_words(text)) for _, text in pairs]
    lengths = [sum(text.values()) for text in texts]
    average = sum(lengths) / len(texts)
    known = Counter(word for text in texts for word in text)

    def score(query: set[str], text: Counter[str], length: int) -> float:
        total = 0.0
        for word in query & text.keys():
            rare = math.log(1 + (len(texts) - known[word] + 0.5) / (known[word] + 0.5))
            total += rare * text[word] * 2.2 / (text[word] + 1.2 * (0.25 + 0.75 * length / average))
        return total

    queries = [set(_words(query)) for query, _ in pairs]
    return np.array([[score(query, *each) for each in zip(texts, lengths, strict=True)] for query in queries])


def _overlap(pairs: list[Pair]) -> Scores:
    """Words that both have, of all that either has (Jaccard)."""
    texts = [set(_words(text)) for _, text in pairs]
    queries = [set(_words(query)) for query, _ in pairs]
    return np.array([[len(query & text) / max(1, len(query | text)) for text in texts] for query in queries])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _found(scores: Scores) -> tuple[float, float]:
    """Shares of queries whose text is first, and among the first ten. Of those with one score it is the last."""
    places = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    return float((places <= 1).mean()), float((places <= 10).mean())


def _sentence_ms() -> float:
    sentence = "A name is resolved once, and the very address that was checked is connected to afterwards."
    times = []
    for _ in range(200):
        started = time.perf_counter()
        embed(sentence)
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


if __name__ == "__main__":
    if sys.argv[1:] != ["choose"]:
        sys.exit("python -m benchmarks.embedding choose; figures: python -m benchmarks.run embedding")
    choose()
