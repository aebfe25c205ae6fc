from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smol.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
)
from smol.sdk import Attachment
from smol.sdk.schema import operations_of
from smol.units.storage.records import Action
from smol.units.storage.unit import Storage


def test_json_comes_back_as_it_went_in(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            values: list[Any] = [None, True, 0, -1.5, "", "ä\0𝄞", [], {"a": [1, {"b": None}]}, 2**60]
            for number, value in enumerate(values):
                written = await storage.put(context, f"k{number}", value)
                assert written.created
                assert (await storage.get(f"k{number}")).value == value

    asyncio.run(scenario())


def test_bytes_come_back_with_their_type_and_name(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(
                context, "photo", attachment=Attachment(memoryview(b"\xff\xd8"), "image/jpeg", "a.jpg")
            )
            item = await storage.get("photo")
            assert item.attachment == Attachment(b"\xff\xd8", "image/jpeg", "a.jpg")
            assert (item.bytes, item.value) == (2, None)

    asyncio.run(scenario())


def test_what_is_missing_is_not_found_and_deleting_it_is_no_error(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            with pytest.raises(NotFound, match="'gone'"):
                await storage.get("gone")
            assert not (await storage.delete(context, "gone")).existed
            await storage.put(context, "gone", 1)
            assert (await storage.delete(context, "gone")).existed
            with pytest.raises(NotFound):
                await storage.get("gone")

    asyncio.run(scenario())


def test_versions_grow_and_guard_writes(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            first = await storage.put(context, "k", 1, expected_version=0)
            with pytest.raises(AlreadyExists):
                await storage.put(context, "k", 2, expected_version=0)
            second = await storage.put(context, "k", 2, expected_version=first.version)
            assert second.version > first.version
            with pytest.raises(Aborted) as caught:
                await storage.put(context, "k", 3, expected_version=first.version)
            assert caught.value.details["version"] == second.version
            with pytest.raises(Aborted):
                await storage.delete(context, "k", expected_version=first.version)
            await storage.delete(context, "k", expected_version=second.version)
            with pytest.raises(NotFound):
                await storage.put(context, "k", 3, expected_version=second.version)
            assert (await storage.put(context, "k", 4)).version > second.version + 1

    asyncio.run(scenario())


def test_one_of_many_compare_and_set_wins(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            version = (await storage.put(context, "k", 0)).version
            outcomes = await asyncio.gather(
                *(storage.put(context, "k", n, expected_version=version) for n in range(50)),
                return_exceptions=True,
            )
            assert sum(not isinstance(outcome, Aborted) for outcome in outcomes) == 1

    asyncio.run(scenario())


def test_a_value_lives_as_long_as_it_was_given(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "short", 1, ttl_seconds=10)
            await storage.put(context, "long", 1)
            clock.now += 9.9
            assert (await storage.get("short")).expires_at == pytest.approx(1_000_010)
            clock.now += 0.2
            with pytest.raises(NotFound):
                await storage.get("short")
            assert [entry.key for entry in (await storage.list()).entries] == ["long"]
            assert (await storage.status()).items == 2
            assert await storage.sweep() == 1
            assert (await storage.status()).items == 1

    asyncio.run(scenario())


def test_an_expired_key_counts_as_missing_before_it_is_swept(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "k", 1, ttl_seconds=1)
            clock.now += 2
            assert not (await storage.delete(context, "k")).existed
            assert (await storage.put(context, "k", 2, expected_version=0)).created
            assert await storage.sweep() == 0
            item = await storage.get("k")
            assert (item.value, item.created_at) == (2, clock.now)
            assert (await storage.status()).items == 1

    asyncio.run(scenario())


def test_lists_are_ordered_ranged_and_paged(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            keys = sorted(["a", "a/1", "a/2", "a/\U0010ffff", "b", "ä", "z", "\ue000"])
            for key in keys:
                await storage.put(context, key, key)

            async def all_keys(**arguments: Any) -> list[str]:
                found: list[str] = []
                cursor = None
                while True:
                    page = await storage.list(cursor=cursor, limit=2, **arguments)
                    found += [entry.key for entry in page.entries]
                    assert [entry.value for entry in page.entries] == [entry.key for entry in page.entries]
                    cursor = page.cursor
                    if cursor is None:
                        return found

            assert await all_keys() == keys
            assert await all_keys(reverse=True) == keys[::-1]
            assert await all_keys(prefix="a") == [key for key in keys if key.startswith("a")]
            assert await all_keys(prefix="a/", reverse=True) == ["a/\U0010ffff", "a/2", "a/1"]
            assert await all_keys(start="a/2", end="z") == [key for key in keys if "a/2" <= key < "z"]
            assert await all_keys(start="b", prefix="a") == []

    asyncio.run(scenario())


def test_a_page_of_large_values_ends_early(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            for number in range(5):
                await storage.put(context, str(number), "x" * 300_000)
            page = await storage.list()
            assert (len(page.entries), page.cursor) == (1, "0")
            assert len((await storage.list(values=False)).entries) == 5

    asyncio.run(scenario())


def test_a_batch_is_done_whole_or_not_at_all(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            done = await storage.batch(
                context,
                [
                    Action(do="put", key="a", value=1),
                    Action(do="put", key="a", value=2, collection="other"),
                    Action(do="check", key="a"),
                    Action(do="delete", key="a"),
                    Action(do="check", key="a", expected_version=0),
                ],
            )
            assert [outcome.existed for outcome in done] == [False, False, True, True, False]
            with pytest.raises(NotFound):
                await storage.batch(
                    context, [Action(do="put", key="b", value=1), Action(do="check", key="missing")]
                )
            with pytest.raises(NotFound):
                await storage.get("b")
            assert (await storage.get("a", "other")).value == 2

    asyncio.run(scenario())


def test_the_same_request_under_one_key_is_done_once(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            first = await storage.put(context, "k", {"n": 1}, idempotency_key="one")
            await storage.put(context, "k", {"n": 2})
            assert await storage.put(context, "k", {"n": 1}, idempotency_key="one") == first
            assert (await storage.get("k")).value == {"n": 2}
            with pytest.raises(InvalidArgument, match="another request"):
                await storage.put(context, "k", {"n": 3}, idempotency_key="one")
            actions = [Action(do="delete", key="k"), Action(do="put", key="l", attachment=Attachment(b"x"))]
            done = await storage.batch(context, actions, idempotency_key="two")
            assert await storage.batch(context, actions, idempotency_key="two") == done

    asyncio.run(scenario())


def test_the_key_of_the_call_counts_and_is_forgotten_in_time(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened(key="call", outcome_seconds=60.0) as (storage, context):
            first = await storage.put(context, "k", 1)
            assert await storage.put(context, "k", 1) == first
            clock.now += 61
            await storage.sweep()
            assert (await storage.put(context, "k", 2)).version > first.version

    asyncio.run(scenario())


def test_a_failed_request_does_not_use_its_key_up(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            with pytest.raises(NotFound):
                await storage.put(context, "k", 1, expected_version=7, idempotency_key="one")
            await storage.put(context, "k", 1, idempotency_key="one")

    asyncio.run(scenario())


def test_quotas_refuse_growth_and_allow_shrinking(opened: Any) -> None:
    async def scenario() -> None:
        async with opened(max_bytes=100, collection_max_items=3) as (storage, context):
            await storage.put(context, "a", attachment=Attachment(b"x" * 80))
            with pytest.raises(ResourceExhausted, match="the store"):
                await storage.put(context, "b", attachment=Attachment(b"x" * 30), collection="other")
            await storage.configure("default", max_bytes=50)
            with pytest.raises(ResourceExhausted, match="'default'"):
                await storage.put(context, "a", attachment=Attachment(b"x" * 81))
            await storage.put(context, "a", attachment=Attachment(b"x" * 79))
            await storage.put(context, "a", 1)
            await storage.put(context, "b", 1)
            await storage.put(context, "c", 1)
            with pytest.raises(ResourceExhausted, match="3"):
                await storage.put(context, "d", 1)
            await storage.delete(context, "a")
            await storage.put(context, "d", 1)
            status = await storage.status()
            assert (status.items, status.bytes) == (3, 3)

    asyncio.run(scenario())


def test_counts_and_sizes_are_those_of_what_is_there(opened: Any) -> None:
    async def scenario() -> None:
        async with opened(max_collections=2) as (storage, context):
            await storage.put(context, "a", "xx")
            await storage.put(context, "a", "xxx", vector=[1.0, 2.0])
            await storage.put(context, "b", 1, "two")
            assert [(info.name, info.items, info.bytes) for info in await storage.collections()] == [
                ("default", 1, 5 + 8),
                ("two", 1, 1),
            ]
            with pytest.raises(ResourceExhausted, match="collections"):
                await storage.put(context, "c", 1, "three")
            assert await storage.drop("default") == 1
            assert (await storage.status()).bytes == 1
            with pytest.raises(NotFound):
                await storage.drop("nothing")

    asyncio.run(scenario())


def test_a_watcher_is_told_of_changes_and_misses_none_after_a_break(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "a", 1)
            stream = storage.watch("default")
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            while not waiting.done():
                await storage.put(context, "b", 2, ttl_seconds=5)
            change = await waiting
            assert (change.key, change.deleted, change.entry.value) == ("b", False, 2)
            await stream.aclose()
            await storage.put(context, "ignored", 1, "other")
            await storage.delete(context, "a")
            clock.now += 6
            await storage.sweep()
            again = storage.watch("default", since=change.sequence)
            found = [await anext(again), await anext(again)]
            assert [(found.key, found.deleted) for found in found] == [("a", True), ("b", True)]
            await again.aclose()
            everything = storage.watch(since=0)
            assert [(await anext(everything)).key for _ in range(3)] == ["ignored", "a", "b"]
            await everything.aclose()

    asyncio.run(scenario())


def test_watching_from_a_page_of_a_list_leaves_no_gap(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "a", 1)
            page = await storage.list()
            await storage.put(context, "b", 1)
            stream = storage.watch(since=page.sequence)
            assert (await anext(stream)).key == "b"
            await stream.aclose()

    asyncio.run(scenario())


def test_forgotten_deletions_are_said_to_be_forgotten(opened: Any) -> None:
    async def scenario() -> None:
        async with opened(kept_deletions=2) as (storage, context):
            first = await storage.put(context, "0", 0)
            for number in range(5):
                await storage.put(context, str(number), number)
                last = await storage.delete(context, str(number))
            await storage.sweep()
            with pytest.raises(FailedPrecondition, match="forgotten"):
                await anext(storage.watch(since=first.version))
            stream = storage.watch(since=0)
            assert [(await anext(stream)).key for _ in range(2)] == ["3", "4"]
            await stream.aclose()
            assert (await storage.put(context, "new", 1)).version == last.version + 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": "a\0b"},
        {"key": "\ud800"},
        {"key": ""},
        {"key": "k", "value": object()},
        {"key": "k", "value": "x" * 800_000},
        {"key": "k", "value": 1, "attachment": Attachment(b"")},
        {"key": "k", "attachment": Attachment(bytes(9 * 2**20))},
        {"key": "k", "ttl_seconds": float("inf")},
        {"key": "k", "vector": []},
        {"key": "k", "vector": [float("nan")]},
        {"key": "k", "vector": [1e300]},
    ],
)
def test_what_cannot_be_stored_is_refused(opened: Any, arguments: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            with pytest.raises(InvalidArgument):
                await storage.put(context, **arguments)
            assert (await storage.status()).items == 0

    asyncio.run(scenario())


def test_unknown_settings_are_refused(opened: Any) -> None:
    async def scenario() -> None:
        async with opened(max_byte=1):
            pass

    with pytest.raises(SmolError, match="max_byte"):
        asyncio.run(scenario())


def test_every_operation_can_be_described() -> None:
    operations = operations_of(Storage(), "storage")
    assert len(operations) == 23
    for operation in operations.values():
        assert operation.describe(schemas=True).summary


def test_serving_sweeps_when_something_is_due(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "k", 1, ttl_seconds=0.02)
            serving = asyncio.ensure_future(storage.serve(context))
            stream = storage.watch("default", since=0)
            change = await anext(stream)
            clock.now += 1
            while not change.deleted:
                change = await anext(stream)
            assert change.key == "k"
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await stream.aclose()

    asyncio.run(scenario())
