"""Programs made up by Hypothesis, run by the engine and by a plain Python model: both must end the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import SmolError, Unavailable
from smol.types import Json
from smol.units.executor.calls import Outcome
from smol.units.executor.check import check
from smol.units.executor.engine import Engine
from smol.units.executor.journal import Memory
from smol.units.executor.program import Limits, parse

ALWAYS = 100
"""Failures enough for any number of attempts."""


class Failed(Exception):
    """The model's failure of a step."""


class Returned(Exception):
    def __init__(self, value: Json) -> None:
        super().__init__()
        self.value = value


class Model:
    """Does what a program says, one thing after the other. calls: what reached an operation and succeeded."""

    def __init__(self, program: Json) -> None:
        self.program = program
        self.registers = dict(program["registers"])
        self.calls: list[int] = []

    def run(self) -> Json:
        try:
            return self.steps(self.program["steps"], {})
        except Returned as returned:
            return returned.value

    def steps(self, steps: Sequence[Json], extra: Mapping[str, int]) -> Json:
        last: Json = None
        for step in steps:
            last = None
            if step.get("if", True) is False:
                continue
            try:
                last = self.step(step, extra)
            except Failed:
                if "catch" not in step:
                    raise
                last = self.steps(step["catch"]["do"], extra)
        return last

    def step(self, step: Json, extra: Mapping[str, int]) -> Json:
        if "call" in step:
            number = self.value(step["with"]["number"], extra)
            if step["with"]["failures"] >= step.get("retry", {"attempts": 1})["attempts"]:
                raise Failed
            self.calls.append(number)
            return number + 1
        if "for_each" in step:
            return [self.steps(step["do"], {"item": item}) for item in step["for_each"]]
        if "parallel" in step:
            return [self.steps(branch, extra) for branch in step["parallel"]]
        if "set" in step:
            values = {"x": self.value(step["set"]["x"], extra)}
            self.registers |= values
            return values
        raise Returned(self.value(step["return"], extra))

    def value(self, written: Json, extra: Mapping[str, int]) -> Json:
        if written == "${{ registers.x }}":
            return self.registers["x"]
        return extra["item"] if written == "${{ item }}" else written


class Kept(Memory):
    """Remembers how steps ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def ended(self, path: str) -> Outcome | None:
        return self.outcomes.get(path)

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None:
        self.outcomes[path] = outcome


class Killed(BaseException):
    pass


class Lab:
    """`add` answers its number plus one, after it has failed as often for this step as it is told.

    fuse: calls after which everything is killed, before or after a call has its effect.
    """

    def __init__(self, fuse: int = 1 << 30) -> None:
        self.fuse = fuse
        self.failed: dict[str, int] = {}
        self.effects: dict[str, int] = {}

    async def call(self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float, key: str) -> Json:
        self._burn()
        await asyncio.sleep(0)
        self.failed[key] = self.failed.get(key, 0) + 1
        if self.failed[key] <= arguments["failures"]:
            raise Unavailable("told to fail")
        self.effects[key] = arguments["number"]
        self._burn()
        return arguments["number"] + 1

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise Killed

    def stream(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float
    ) -> AsyncGenerator[Json, None]:
        raise NotImplementedError

    def events(self, topic: str) -> AsyncGenerator[tuple[str, Json], None]:
        raise NotImplementedError

    async def memory_bytes(self, operation: str) -> int:
        return 7 << 20

    async def uses(self, operation: str, arguments: Mapping[str, Any]) -> list[str]:
        return [str(arguments["through"])] if "through" in arguments else []

    async def is_idempotent(self, operation: str) -> bool:
        return True


def values(in_loop: bool) -> st.SearchStrategy[Json]:
    places = ["${{ registers.x }}", *(["${{ item }}"] if in_loop else [])]
    return st.one_of(st.integers(0, 9), st.sampled_from(places))


def steps(depth: int, failures: Sequence[int], *, in_loop: bool, beside: bool) -> st.SearchStrategy[Json]:
    """Lists of steps. beside: others run at the same time, where neither set nor return is allowed."""

    def inner(**more: bool) -> st.SearchStrategy[Json]:
        return steps(depth - 1, failures, **{"in_loop": in_loop, "beside": beside, **more})

    arguments = st.fixed_dictionaries({"number": values(in_loop), "failures": st.sampled_from(failures)})
    retry = st.fixed_dictionaries({"attempts": st.integers(1, 3), "wait_seconds": st.just(0)})
    common: dict[str, Any] = {"if": st.booleans()}
    if depth > 0:
        common["catch"] = st.fixed_dictionaries({"do": inner()})
    kinds = [
        st.fixed_dictionaries({"call": st.just("lab.add"), "with": arguments}, optional={"retry": retry, **common})
    ]
    if not beside:
        written = st.fixed_dictionaries({"x": values(in_loop)})
        kinds.append(st.fixed_dictionaries({"set": written}, optional={"if": st.booleans()}))
        kinds.append(st.fixed_dictionaries({"return": values(in_loop)}, optional={"if": st.booleans()}))
    if depth > 0:
        items = st.lists(st.integers(0, 9), max_size=3)
        kinds.append(st.fixed_dictionaries({"for_each": items, "do": inner(in_loop=True)}, optional=common))
        kinds.append(
            st.fixed_dictionaries(
                {"for_each": items, "parallelism": st.just(2), "do": inner(in_loop=True, beside=True)},
                optional=common,
            )
        )
        branches = st.lists(inner(beside=True), min_size=1, max_size=3)
        kinds.append(st.fixed_dictionaries({"parallel": branches}, optional=common))
    return st.lists(st.one_of(kinds), min_size=1, max_size=3)


def programs(failures: Sequence[int]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {"registers": st.just({"x": 5}), "steps": steps(2, failures, in_loop=False, beside=False)}
    )


def expected(model: Model) -> tuple[Json, str]:
    try:
        return model.run(), ""
    except Failed:
        return None, "UNAVAILABLE"


async def run(program: Json, lab: Lab, journal: Memory) -> tuple[Json, str]:
    source = parse(msgspec.json.encode(program).decode(), Limits())
    engine = Engine(source.program, lab, journal, Limits(), run="r", sleep=lambda seconds: asyncio.sleep(0))
    try:
        return await engine.run(None), ""
    except SmolError as error:
        return None, error.code


def runs_beside(program: Json) -> bool:
    text = msgspec.json.encode(program).decode()
    return '"parallel' in text


@given(program=programs([0, 0, 1, 2, ALWAYS]))
@settings(max_examples=120, deadline=None)
def test_the_engine_does_what_a_plain_interpreter_does(program: Json) -> None:
    model, lab = Model(program), Lab()
    assert asyncio.run(run(program, lab, Memory())) == expected(model)
    if not runs_beside(program):  # Else a failure cancels others at a moment that is left to chance.
        assert list(lab.effects.values()) == model.calls


@given(program=programs([0, 0, ALWAYS]), kills=st.lists(st.integers(1, 12), max_size=4))
@settings(max_examples=80, deadline=None)
def test_killed_at_any_call_and_run_again_the_end_is_the_same(program: Json, kills: list[int]) -> None:
    model, lab, journal = Model(program), Lab(), Kept()
    for lab.fuse in [*kills, 1 << 30]:
        try:
            result = asyncio.run(run(program, lab, journal))
            break
        except Killed:
            continue
    assert result == expected(model)
    if not runs_beside(program):
        assert sorted(lab.effects.values()) == sorted(model.calls)


@given(program=programs([0]))
@settings(max_examples=40, deadline=None)
def test_what_is_made_up_here_are_right_programs(program: Json) -> None:
    source = parse(msgspec.json.encode(program).decode(), Limits())
    problems = check(source, {"lab.add": "not looked up"}, Limits())
    assert [problem.message for problem in problems if problem.message != "not looked up"] == []
