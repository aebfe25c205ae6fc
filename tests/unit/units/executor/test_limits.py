"""The limits of runs as a whole: time, and the size of the journal; runs at once and the bytes of a program."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from smol.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from smol.sdk import Context
from smol.sdk.context import Environment
from smol.types import Json
from smol.units.executor.unit import Executor

Make: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Executor, Context]]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    @asynccontextmanager
    async def make_executor(**settings: Any) -> AsyncIterator[tuple[Executor, Context]]:
        environment = Environment(
            unit="executor",
            log=logging.getLogger("test"),
            data_dir=tmp_path,
            cache_dir=tmp_path,
            settings=settings,
        )
        unit, context = Executor(), Context(environment)
        await unit.provision(context)
        try:
            await unit.serve(context)
            yield unit, context
        finally:
            await unit.close()

    return make_executor


async def _end(unit: Executor, context: Context, program: str, given: Json = None) -> Json:
    run = await unit.submit(context, program, given)
    return await unit.result(context, run.id)


@pytest.mark.parametrize("durable", [False, True])
async def test_a_program_that_runs_too_long_is_ended(make: Make, durable: bool) -> None:
    async with make(run_seconds=0.2) as (unit, context):
        with pytest.raises(DeadlineExceeded, match=r"longer than 0\.2 s"):
            await (
                _end(unit, context, "steps: [{wait: 60}]") if durable else unit.run(context, "steps: [{wait: 60}]")
            )


async def test_a_journal_that_grows_too_large_ends_its_run(make: Make) -> None:
    async with make(journal_bytes=1000) as (unit, context):
        text = 'steps: [{for_each: [1, 2, 3], do: [{program: p, with: {a: "${{ input }}"}}]}, {return: done}]\n'
        text += "programs: {p: [{wait: 0}, {return: 1}]}"
        assert await _end(unit, context, text, "small") == "done"
        with pytest.raises(ResourceExhausted, match="beyond 1000"):
            await _end(unit, context, text, "x" * 2000)


async def test_more_runs_at_once_than_allowed_are_refused_with_a_time_to_try_again(make: Make) -> None:
    async with make(runs=1) as (unit, context):
        first = await unit.submit(context, "steps: [{wait: 60}]")
        with pytest.raises(ResourceExhausted) as refused:
            await unit.submit(context, "steps: [{wait: 60}]")
        assert refused.value.details["retry_after_ms"] > 0
        await unit.cancel(first.id)
        assert await _end(unit, context, "steps: [{return: 1}]") == 1


async def test_a_caller_can_be_held_to_a_list_and_no_caller_gets_more_than_the_settings_allow(make: Make) -> None:
    text = "steps: [{wait: {event: lab.seen}, timeout_seconds: 0.01}]"
    async with make(allowed=["lab.*", "math.*"]) as (unit, context):
        assert await unit.check(context, text) == []
        assert "may not be waited for" in (await unit.check(context, text, ["math.*"]))[0].message
        assert (
            "may not be waited for"
            in (await unit.check(context, text.replace("lab", "storage"), ["*"]))[0].message
        )
        with pytest.raises(InvalidArgument, match="may not be waited for"):
            await unit.submit(context, text, allowed=["math.*"])


async def test_wrong_limits_are_named(make: Make) -> None:
    with pytest.raises(InvalidArgument, match="run_seconds"):
        async with make(run_seconds=-1):
            pass
