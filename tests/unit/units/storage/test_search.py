from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import InvalidArgument, NotFound
from smol.units.storage.migrations import MIGRATIONS
from smol.units.storage.texts import _fts_query
from smol.units.storage.vectors import Metric, nearest, pack


def test_words_are_found_ranked_with_a_snippet(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "before", {"title": "Cats before the configuration"}, "notes")
            await storage.configure("notes", text_fields=["title", "tags.name"])
            await storage.put(
                context, "once", {"title": "A cat and a long row of other words about dogs"}, "notes"
            )
            await storage.put(context, "often", {"title": "cat cat cat"}, "notes")
            await storage.put(context, "tagged", {"tags": [{"name": "x"}, {"name": "ÉLÉPHANT gris"}]}, "notes")
            await storage.put(context, "hidden", {"body": "cat"}, "notes")
            found = await storage.search("cat", "notes")
            assert [match.key for match in found] == ["often", "once"]
            assert found[0].score > found[1].score
            assert "[cat]" in (found[1].snippet or "")
            keys = {
                query: [match.key for match in await storage.search(query, "notes")]
                for query in ("cat -dogs", "cat*", '"long row"', '"row long"', "elephant", "other cat")
            }
            assert keys["cat -dogs"] == ["often"]
            assert sorted(keys["cat*"]) == ["before", "often", "once"]
            assert (keys['"long row"'], keys['"row long"']) == (["once"], [])
            assert keys["elephant"] == ["tagged"]
            assert keys["other cat"] == ["once"]

    asyncio.run(scenario())


def test_the_index_follows_changes(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.configure("default", text_fields=["*"])

            async def found(query: str) -> list[str]:
                return sorted(match.key for match in await storage.search(query))

            await storage.put(context, "a", ["red", {"deep": "green"}])
            await storage.put(context, "b", "green", ttl_seconds=5)
            assert await found("green") == ["a", "b"]
            clock.now += 6
            assert await found("green") == ["a"]
            await storage.put(context, "a", "blue")
            assert await found("green") == []
            await storage.delete(context, "a")
            assert await found("blue") == []
            await storage.put(context, "c", {"t": "blue"})
            await storage.configure("default", text_fields=["other"])
            assert await found("blue") == []
            await storage.configure("default")
            with pytest.raises(NotFound, match="text_fields"):
                await storage.search("blue")

    asyncio.run(scenario())


def test_a_query_without_words_is_refused(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            await storage.configure("default", text_fields=["*"])
            for query in ('"', "-word", "* ( )", "\0"):
                with pytest.raises(InvalidArgument, match="no word"):
                    await storage.search(query)

    asyncio.run(scenario())


def test_no_query_is_a_syntax_error() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5(body)")

    @settings(max_examples=300, deadline=None)
    @given(st.text(alphabet="ab\"*-() :^+{}'\\\0é", max_size=20) | st.text(max_size=20))
    def check(query: str) -> None:
        try:
            translated = _fts_query(query)
        except InvalidArgument:
            return
        connection.execute("SELECT * FROM texts WHERE texts MATCH ?", (translated,)).fetchall()

    check()
    connection.close()


def test_a_filter_narrows_both_searches(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.configure("default", text_fields=["t"])
            for key, value in {
                "a": {"t": "cat", "m": {"n": 1}},
                "b": {"t": "cat", "m": {"n": "1"}},
                "c": {"t": "cat"},
            }.items():
                await storage.put(context, key, value, vector=[1.0, 0.0])
            for where, keys in [
                ({"m.n": 1}, ["a"]),
                ({"m.n": "1"}, ["b"]),
                ({"m.n": None}, ["c"]),
                ({"m.n": 2}, []),
            ]:
                assert [match.key for match in await storage.search("cat", where=where)] == keys
                assert [match.key for match in await storage.nearest([1.0, 0.0], where=where)] == keys
            for where in [{'a"b': 1}, {"": 1}, {"a": []}, {"a": 2**70}]:
                with pytest.raises(InvalidArgument):
                    await storage.search("cat", where=where)

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3),
)
def test_nearest_agrees_with_plain_arithmetic(vectors: list[list[float]], query: list[float]) -> None:

    def cosine(a: list[float], b: list[float]) -> float:
        norms = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0

    scores: dict[Metric, Callable[[list[float], list[float]], float]] = {
        "cosine": cosine,
        "dot": lambda a, b: sum(x * y for x, y in zip(a, b, strict=True)),
        "euclidean": lambda a, b: -math.dist(a, b),
    }
    connection = sqlite3.connect(":memory:")
    connection.executescript(MIGRATIONS[0].sql)
    connection.execute("INSERT INTO collections(id, name) VALUES (1, 'c')")
    for number, vector in enumerate(vectors, 1):
        connection.execute(
            "INSERT INTO items(id, collection, key, version, value, bytes, created_ms, updated_ms) "
            "VALUES (?, 1, ?, ?, 'null', 4, 0, 0)",
            (number, str(number), number),
        )
        connection.execute("INSERT INTO vectors VALUES (?, 1, 3, ?)", (number, pack(vector)))
    for metric, score in scores.items():
        found = nearest(connection, "c", pack(query), metric, {}, 5, 0)
        expected = sorted((score(vector, query) for vector in vectors), reverse=True)[:5]
        assert [match.score for match in found] == pytest.approx(expected, rel=1e-4, abs=1e-2)
        for match in found:
            assert match.score == pytest.approx(score(vectors[int(match.key) - 1], query), rel=1e-4, abs=1e-2)
    connection.close()


def test_vectors_go_with_their_values(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "a", 1, vector=[1.0, 0.0])
            await storage.put(context, "b", 2, vector=[0.0, 1.0])
            await storage.put(context, "c", 3, vector=[0.0, 1.0, 0.0])
            assert [match.key for match in await storage.nearest([1.0, 0.1])] == ["a", "b"]
            await storage.put(context, "a", 1)
            await storage.delete(context, "b")
            assert await storage.nearest([1.0, 0.1]) == []

    asyncio.run(scenario())
