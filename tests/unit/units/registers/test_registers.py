from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from smol.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    SmolError,
)
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.sdk.schema import operations_of
from smol.units.registers.unit import Registers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def opened(clock: Clock | None = None, **settings: Any) -> Registers:
    registers = Registers(clock or Clock())
    environment = Environment(
        unit="registers", log=logging.getLogger("test"), data_dir=Path(), cache_dir=Path(), settings=settings
    )
    await registers.provision(Context(environment))
    return registers


def test_values_come_back_and_share_nothing_with_the_caller() -> None:
    async def scenario() -> None:
        registers = await opened()
        value = {"a": [1]}
        first = await registers.set("x", value)
        value["a"].append(2)
        first.value["a"].append(3)
        assert (await registers.get("x")).value == {"a": [1]}
        await registers.set("photo", attachment=Attachment(memoryview(b"\xff"), "image/png", "p.png"))
        assert (await registers.get("photo")).attachment == Attachment(b"\xff", "image/png", "p.png")
        with pytest.raises(NotFound, match="'y'"):
            await registers.get("y")

    asyncio.run(scenario())


def test_scopes_are_apart() -> None:
    async def scenario() -> None:
        registers = await opened()
        await registers.set("x", 1, "program:7")
        await registers.set("x", "text", "session:7")
        with pytest.raises(NotFound):
            await registers.get("x")
        assert (await registers.get("x", "program:7")).value == 1
        assert await registers.clear("program:7") == 1
        assert await registers.clear("program:7") == 0
        assert [info.scope for info in await registers.scopes()] == ["session:7"]
        assert await registers.delete("x", "session:7")
        assert await registers.scopes() == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("first", "kind", "good", "bad"),
    [
        (True, "boolean", False, 1),
        (1, "integer", 2, 1.5),
        (1.5, "number", 2, "x"),
        ("x", "text", "", None),
        ([], "list", [1], {}),
        ({}, "map", {"a": 1}, []),
        (Attachment(b""), "bytes", Attachment(b"x"), "x"),
        (None, "any", 1, None),
    ],
)
def test_a_register_keeps_its_kind(first: Any, kind: str, good: Any, bad: Any) -> None:
    def given(value: Any) -> dict[str, Any]:
        return {"attachment": value} if isinstance(value, Attachment) else {"value": value}

    async def scenario() -> None:
        registers = await opened()
        assert (await registers.set("x", **given(first))).kind == kind
        await registers.set("x", **given(good))
        if kind != "any":
            with pytest.raises(FailedPrecondition, match="delete it first"):
                await registers.set("x", **given(bad))
        with pytest.raises(FailedPrecondition):
            await registers.set("x", **given(good), kind="text" if kind != "text" else "map")
        await registers.delete("x")
        await registers.set("x", **given(bad))

    asyncio.run(scenario())


def test_a_kind_can_be_declared() -> None:
    async def scenario() -> None:
        registers = await opened()
        await registers.set("x", 1, kind="number")
        assert (await registers.increment("x", 0.5)).value == 1.5
        with pytest.raises(FailedPrecondition, match="'number' or 'any'"):
            await registers.set("y", 1, kind="text")
        with pytest.raises(NotFound):
            await registers.get("y")

    asyncio.run(scenario())


def test_a_thousand_concurrent_increments_make_a_thousand() -> None:
    async def scenario() -> None:
        registers = await opened()
        await asyncio.gather(*(registers.increment("n") for _ in range(1000)))
        assert (await registers.get("n")).value == 1000

    asyncio.run(scenario())


def test_increments_start_where_told_and_stay_in_range() -> None:
    async def scenario() -> None:
        registers = await opened()
        assert (await registers.increment("n", 5, initial=10)).value == 15
        assert (await registers.increment("n", -20, initial=10)).value == -5
        with pytest.raises(FailedPrecondition):
            await registers.increment("n", 0.5)
        await registers.set("n", 2**63 - 1)
        with pytest.raises(OutOfRange):
            await registers.increment("n")
        await registers.set("f", 1e308)
        with pytest.raises(OutOfRange):
            await registers.increment("f", 1e308)
        await registers.set("t", "text")
        with pytest.raises(FailedPrecondition, match="holds text"):
            await registers.increment("t")

    asyncio.run(scenario())


def test_append_grows_lists_and_texts() -> None:
    async def scenario() -> None:
        registers = await opened()
        assert await registers.append("l", {"a": 1}) == 1
        assert await registers.append("l", "é") == 2
        assert (await registers.get("l")).value == [{"a": 1}, "é"]
        assert await registers.append("l", None, keep=2) == 2
        assert (await registers.get("l")).value == ["é", None]
        await registers.set("t", 'quo"te')
        assert await registers.append("t", "\n𝄞") == 8
        assert (await registers.get("t")).value == 'quo"te\n𝄞'
        assert await registers.append("t", "z", keep=2) == 2
        assert (await registers.get("t")).value == "𝄞z"
        await registers.set("n", 1)
        for name, value in (("n", 1), ("t", 1)):
            with pytest.raises(FailedPrecondition):
                await registers.append(name, value)

    asyncio.run(scenario())


def test_swap_answers_what_was_before() -> None:
    async def scenario() -> None:
        registers = await opened()
        assert await registers.swap("x", 1) is None
        before = await registers.swap("x", 2)
        assert before is not None
        assert (before.value, (await registers.get("x")).value) == (1, 2)

    asyncio.run(scenario())


def test_compare_and_set_guards() -> None:
    async def scenario() -> None:
        registers = await opened()
        first = await registers.compare_and_set("x", 0, 1)
        with pytest.raises(AlreadyExists):
            await registers.compare_and_set("x", 0, 2)
        second = await registers.compare_and_set("x", first.version, 2)
        with pytest.raises(Aborted):
            await registers.compare_and_set("x", first.version, 3)
        await registers.delete("x")
        with pytest.raises(NotFound):
            await registers.compare_and_set("x", second.version, 3)
        assert (await registers.set("x", 4)).version > second.version

    asyncio.run(scenario())


def test_registers_expire_and_setting_lifts_the_expiry() -> None:
    async def scenario() -> None:
        clock = Clock()
        registers = await opened(clock)
        await registers.set("x", 1, ttl_seconds=10)
        await registers.set("y", 1, ttl_seconds=10)
        assert (await registers.increment("x")).expires_at == 1010
        await registers.set("y", 2)
        clock.now += 11
        with pytest.raises(NotFound):
            await registers.get("x")
        assert (await registers.get("y")).value == 2
        assert [register.name for register in await registers.list()] == ["y"]

    asyncio.run(scenario())


def test_replaced_expiries_do_not_pile_up() -> None:
    async def scenario() -> None:
        registers = await opened()
        for _ in range(1000):
            await registers.set("x", 1, ttl_seconds=10)
        assert len(registers._memory._expiries) < 100

    asyncio.run(scenario())


def test_lists_are_ordered_and_paged() -> None:
    async def scenario() -> None:
        registers = await opened()
        for name in ("b", "a", "c", "ab"):
            await registers.set(name, name)
        await registers.set("z", attachment=Attachment(b"x"))
        assert [register.name for register in await registers.list(limit=3)] == ["a", "ab", "b"]
        page = await registers.list(after="b")
        assert [(register.name, register.attachment) for register in page] == [("c", None), ("z", None)]
        assert [register.name for register in await registers.list(prefix="a")] == ["a", "ab"]
        assert await registers.list("session:none") == []

    asyncio.run(scenario())


def test_limits_refuse_and_leave_what_was() -> None:
    async def scenario() -> None:
        registers = await opened(scope_max_registers=2, scope_max_bytes=20, max_bytes=30, max_scopes=2)
        await registers.set("a", "x" * 8)
        await registers.set("b", "x" * 6)
        with pytest.raises(ResourceExhausted, match="3 registers"):
            await registers.set("c", 1)
        with pytest.raises(ResourceExhausted, match="21 bytes"):
            await registers.set("a", "x" * 11)
        with pytest.raises(ResourceExhausted):
            await registers.append("a", "xxx")
        assert (await registers.get("a")).value == "x" * 8
        with pytest.raises(ResourceExhausted, match="all registers"):
            await registers.set("a", "x" * 12, "session:1")
        assert [info.scope for info in await registers.scopes()] == ["global"]
        await registers.set("a", 1, "session:1")
        with pytest.raises(ResourceExhausted, match="2 scopes"):
            await registers.set("a", 1, "session:2")
        await registers.configure("global", max_bytes=5)
        await registers.set("a", "x" * 7)
        with pytest.raises(ResourceExhausted):
            await registers.set("a", "x" * 8)

    asyncio.run(scenario())


def test_the_least_recently_used_goes_only_where_asked() -> None:
    async def scenario() -> None:
        registers = await opened()
        await registers.configure("session:1", max_registers=2, max_bytes=20, evict="lru")
        stream: Any = registers.watch("session:1")
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await registers.set("a", 1, "session:1")
        await registers.set("b", 1, "session:1")
        await registers.get("a", "session:1")
        await registers.set("c", 1, "session:1")
        assert [register.name for register in await registers.list("session:1")] == ["a", "c"]
        told = [await waiting, *[await anext(stream) for _ in range(2)]]
        assert ("b", "evicted") in [(change.name, change.reason) for change in told]
        await registers.set("d", "x" * 17, "session:1")
        assert [register.name for register in await registers.list("session:1")] == ["c", "d"]
        with pytest.raises(ResourceExhausted):
            await registers.set("e", "x" * 19, "session:1")
        assert [register.name for register in await registers.list("session:1")] == ["c", "d"]
        await stream.aclose()

    asyncio.run(scenario())


def test_watchers_see_the_newest_states_and_expiries() -> None:
    async def scenario() -> None:
        clock = Clock()
        registers = await opened(clock)
        first = await registers.set("a", 1)
        for value in range(5):
            await registers.set("b", value, ttl_seconds=5)
        await registers.set("other", 1, "session:1")
        stream: Any = registers.watch("global", since=first.version)
        change = await anext(stream)
        assert (change.name, change.register.value if change.register else None) == ("b", 4)
        clock.now += 6
        change = await anext(stream)
        assert (change.name, change.reason, change.register) == ("b", "expired", None)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await registers.delete("a")
        assert (await waiting).reason == "deleted"
        await stream.aclose()

    asyncio.run(scenario())


def test_a_watcher_too_far_behind_is_told_to_list() -> None:
    async def scenario() -> None:
        registers = await opened(kept_changes=3)
        for value in range(10):
            await registers.set("x", value)
        with pytest.raises(FailedPrecondition, match="list"):
            await anext(registers.watch(since=2))
        with pytest.raises(FailedPrecondition, match="restart"):
            await anext(registers.watch(since=99))

    asyncio.run(scenario())


def test_serving_expires_in_time() -> None:
    async def scenario() -> None:
        clock = Clock()
        registers = await opened(clock)
        serving = asyncio.ensure_future(registers.serve(None))  # type: ignore[arg-type]
        await registers.set("x", 1, ttl_seconds=0.01)
        stream: Any = registers.watch(since=1)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        clock.now += 1
        assert (await waiting).reason == "expired"
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await stream.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "arguments",
    [
        {"value": object()},
        {"value": float("nan")},
        {"value": "x" * 800_000},
        {"value": 1, "attachment": Attachment(b"")},
        {"attachment": Attachment(bytes(9 * 2**20))},
        {"value": 1, "ttl_seconds": float("inf")},
    ],
)
def test_what_cannot_be_held_is_refused(arguments: dict[str, Any]) -> None:
    async def scenario() -> None:
        registers = await opened()
        with pytest.raises(InvalidArgument):
            await registers.set("x", **arguments)
        assert await registers.list() == []

    asyncio.run(scenario())


def test_unknown_settings_are_refused_and_operations_described() -> None:
    with pytest.raises(SmolError, match="max_byte"):
        asyncio.run(opened(max_byte=1))
    operations = operations_of(Registers(), "registers")
    assert len(operations) == 12
    assert all(operation.describe(schemas=True).summary for operation in operations.values())
