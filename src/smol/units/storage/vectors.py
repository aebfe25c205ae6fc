"""Nearest vectors, exactly: every vector that passes the filter is compared.

numpy is imported at the first search, because it costs more memory than all the rest of the unit.
Vectors are read in blocks, so that memory does not grow with their number. No index: exact search over
100,000 vectors of 384 numbers takes a fraction of a second, and is never wrong. (The sqlite-vec extension was
considered: many Python builds cannot load extensions, and its search is exhaustive too.)
"""

# ruff: noqa: S608 - what is put into statements is words of this module, never of a caller

from __future__ import annotations

import heapq
import math
import struct
from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Literal, TypeAlias

import msgspec

from smol.errors import InvalidArgument
from smol.types import Json
from smol.units.storage.records import VECTOR_DIMENSIONS_MAX, Match
from smol.units.storage.texts import conditions_of

__all__ = ["Metric", "nearest", "pack"]

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]
_BLOCK_BYTES = 4 * 1024 * 1024


def pack(vector: Sequence[float]) -> bytes:
    """float32, little endian. Raises InvalidArgument for no numbers, too many, or one that is not finite."""
    if not 1 <= len(vector) <= VECTOR_DIMENSIONS_MAX:
        raise InvalidArgument(f"a vector has 1 to {VECTOR_DIMENSIONS_MAX} numbers, not {len(vector)}")
    try:
        data = struct.pack(f"<{len(vector)}f", *vector)
    except (struct.error, OverflowError) as error:
        raise InvalidArgument(f"a vector is made of 32-bit floats: {error}") from None
    if not all(map(math.isfinite, vector)):
        raise InvalidArgument("a vector's numbers must be finite")
    return data


def nearest(
    connection: Connection,
    collection: str,
    vector: bytes,
    metric: Metric,
    where: Mapping[str, Json],
    limit: int,
    now_ms: int,
) -> list[Match]:
    """The `limit` nearest items with a vector of the same length, nearest first; ties by key.

    Scores: cosine −1 to 1, 0 for a vector of zeros; the dot product; minus the euclidean distance.
    """
    import numpy as np

    dimensions = len(vector) // 4
    query = np.frombuffer(vector, dtype="<f4")
    conditions, arguments = conditions_of(where)
    cursor = connection.execute(
        "SELECT v.data, i.id, i.key FROM vectors v JOIN items i ON i.id = v.item "
        "JOIN collections k ON k.id = v.collection WHERE k.name = ? AND v.dimensions = ? "
        f"AND (i.expires_ms IS NULL OR i.expires_ms > ?){conditions}",
        (collection, dimensions, now_ms, *arguments),
    )
    best: list[tuple[float, str, int]] = []
    while rows := cursor.fetchmany(max(1, _BLOCK_BYTES // len(vector))):
        block = np.frombuffer(b"".join(row[0] for row in rows), dtype="<f4").reshape(len(rows), dimensions)
        scores = _scores(np, block, query, metric)
        # All that tie with the last place are kept, so that ties are told apart by key.
        bar = np.partition(scores, -limit)[-limit] if len(rows) > limit else scores.min()
        found = [(-float(scores[n]), rows[n][2], rows[n][1]) for n in np.flatnonzero(scores >= bar).tolist()]
        best = heapq.nsmallest(limit, [*best, *found])
    return [_match(connection, item, -negative) for negative, _, item in best]


def _scores(np: Any, block: Any, query: Any, metric: Metric) -> Any:
    if metric == "euclidean":
        return -np.sqrt(((block - query) ** 2).sum(axis=1))
    if metric == "dot":
        return block @ query
    # In double precision, since the squares of small components vanish in single.
    block, query = block.astype(np.float64), query.astype(np.float64)
    dots = block @ query
    norms = np.sqrt(np.einsum("ij,ij->i", block, block)) * np.sqrt(query @ query)
    return np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


def _match(connection: Connection, item: int, score: float) -> Match:
    key, version, value = connection.execute(
        "SELECT key, version, value FROM items WHERE id = ?", (item,)
    ).fetchone()
    decoded = msgspec.json.decode(value) if isinstance(value, str) else None
    return Match(key=key, version=version, score=score, value=decoded)
