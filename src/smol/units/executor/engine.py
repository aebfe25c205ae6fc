"""Runs a checked program: what follows what, what fails, what is tried again.

Knows neither processes nor files: it calls through a `Port` and remembers through a `Journal`. Running
a program again with the journal of a run that was cut off continues that run: steps that had ended are
answered from the journal, so a program must take the same way again. It does, since nothing but results
of steps decides the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import msgspec
from msgspec import UNSET

from smol.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.types import Json
from smol.units.executor.calls import Calls, Journal, Outcome, Port
from smol.units.executor.program import Limits, Program, Step, Stream, WaitFor
from smol.units.executor.references import is_true, resolve

__all__ = ["Engine"]


class _Return(Exception):
    def __init__(self, value: Json) -> None:
        super().__init__()
        self.value = value


class _Scope(msgspec.Struct):
    """What references see. depth: of nesting."""

    input: Json
    registers: dict[str, Json]
    steps: dict[str, Json]
    extra: dict[str, Json]
    depth: int = 0

    def inner(self, **extra: Json) -> _Scope:
        return _Scope(self.input, self.registers, dict(self.steps), {**self.extra, **extra}, self.depth + 1)

    def values(self) -> dict[str, Json]:
        return {"input": self.input, "registers": self.registers, "steps": self.steps, **self.extra}


class Engine:
    """One run of a program. run: its id, part of the idempotency keys. allowed: patterns of operations."""

    def __init__(
        self,
        program: Program,
        port: Port,
        journal: Journal,
        limits: Limits,
        *,
        run: str,
        allowed: Sequence[str] = ("*",),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._program = program
        self._port = port
        self._journal = journal
        self._limits = limits
        self._calls = Calls(port, journal, limits, run, allowed, sleep)
        self._sleep = sleep
        self._count = 0

    async def run(self, given: Json) -> Json:
        """The program's result: of its `return`, else of its last step. Raises the SmolError that ended it."""
        scope = _Scope(given, dict(self._program.registers), {}, {})
        return await self._program_steps(self._program.steps, "steps", scope)

    async def _program_steps(self, steps: Sequence[Step], path: str, scope: _Scope) -> Json:
        try:
            return await self._steps(steps, path, scope)
        except _Return as returned:
            return returned.value

    async def _steps(self, steps: Sequence[Step], path: str, scope: _Scope) -> Json:
        if scope.depth > self._limits.depth:
            raise ResourceExhausted(f"{path} is nested deeper than {self._limits.depth}")
        last: Json = None
        for index, step in enumerate(steps):
            last = await self._step(step, f"{path}[{index}]", scope)
            if step.id is not None:
                scope.steps[step.id] = last
        return last

    async def _step(self, step: Step, path: str, scope: _Scope) -> Json:
        self._count += 1
        if self._count > self._limits.steps:
            raise ResourceExhausted(f"the program took more than {self._limits.steps} steps")
        if not self._is_wanted(step, scope):
            return None
        try:
            return await self._remembered(step, path, scope)
        except SmolError as error:
            if step.catch is None or (step.catch.on and error.code not in step.catch.on):
                raise
            inner = scope.inner(error={"code": error.code, "message": error.message})
            return await self._steps(step.catch.do, f"{path}.catch.do", inner)

    def _is_wanted(self, step: Step, scope: _Scope) -> bool:
        if step.if_ is None:
            return True
        return is_true(resolve(step.if_, scope.values()) if isinstance(step.if_, str) else step.if_)

    async def _remembered(self, step: Step, path: str, scope: _Scope) -> Json:
        """Do a step unless it is known how it ended. Of steps made of steps only failures are kept."""
        known = self._journal.ended(path)
        if known is not None:
            return known.take()
        try:
            async with asyncio.timeout(step.timeout_seconds) as timer:
                return await self._do(step, path, scope)
        except TimeoutError:
            if not timer.expired():
                raise
            error: SmolError = DeadlineExceeded(f"{path} took longer than {step.timeout_seconds} s")
        except SmolError as failure:
            error = failure
        if self._journal.ended(path) is None and not error.details.get("cut_off"):
            await self._journal.end(path, Outcome(error=error), 1)
        raise error

    async def _do(self, step: Step, path: str, scope: _Scope) -> Json:
        if step.call is not UNSET:
            return await self._calls.call(step, step.call, resolve(step.with_, scope.values()), path)
        if step.program is not UNSET:
            inner = _Scope(resolve(step.with_, scope.values()), scope.registers, {}, {}, scope.depth + 1)
            return await self._program_steps(self._program.programs[step.program], f"{path}.{step.program}", inner)
        if step.for_each is not UNSET:
            return await self._for_each(step, path, scope)
        if step.parallel is not UNSET:
            branches = [
                self._branch(steps, f"{path}.parallel[{index}]", scope.inner())
                for index, steps in enumerate(step.parallel)
            ]
            return await self._gather(branches, self._width(step, len(branches)))
        if step.set is not UNSET:
            values = resolve(step.set, scope.values())
            scope.registers.update(values)
            return values
        if step.wait is not UNSET:
            return await self._wait(step, path, scope)
        raise _Return(resolve(step.return_, scope.values()))

    def _branch(self, steps: Sequence[Step], path: str, scope: _Scope) -> Callable[[], Awaitable[Json]]:
        return lambda: self._steps(steps, path, scope)

    def _width(self, step: Step, natural: int) -> int:
        wanted = natural if step.parallelism is UNSET else step.parallelism
        return max(1, min(wanted, self._limits.parallelism))

    async def _for_each(self, step: Step, path: str, scope: _Scope) -> Json:
        if isinstance(step.for_each, Stream):
            return await self._for_each_coming(step, step.for_each, path, scope)
        items = resolve(step.for_each, scope.values())
        if not isinstance(items, list):
            raise InvalidArgument(f"{path}.for_each wants a list, not {type(items).__name__}")
        if len(items) > self._limits.items:
            raise ResourceExhausted(f"{path}.for_each has {len(items)} items, {self._limits.items} are allowed")
        body = step.do if step.do is not UNSET else []
        work = [
            self._branch(body, f"{path}.do#{index}", scope.inner(item=item, index=index))
            for index, item in enumerate(items)
        ]
        return await self._gather(work, self._width(step, 1))

    async def _for_each_coming(self, step: Step, stream: Stream, path: str, scope: _Scope) -> Json:
        """Deal with the items of a stream as they come."""
        body = step.do if step.do is not UNSET else []
        results: dict[int, Json] = {}
        turn = asyncio.Lock()

        async def take() -> None:
            while True:
                async with turn:
                    try:
                        index, item = await anext(coming)
                    except StopAsyncIteration:
                        return
                results[index] = await self._steps(body, f"{path}.do#{index}", scope.inner(item=item, index=index))

        seconds = step.timeout_seconds or self._limits.run_seconds
        width = self._width(step, 1)
        async with contextlib.aclosing(self._coming(stream, path, scope, seconds)) as coming:
            await self._gather([take] * width, width)
        return [results[index] for index in sorted(results)]

    async def _coming(
        self, stream: Stream, path: str, scope: _Scope, seconds: float
    ) -> AsyncGenerator[tuple[int, Json], None]:
        """The items that an earlier life of the run had, then those of the stream, opened anew."""
        index = 0
        while (known := self._journal.ended(f"{path}.item#{index}")) is not None:
            yield index, known.take()
            index += 1
        if index >= stream.collect.items:
            return
        left = msgspec.structs.replace(stream.collect, items=stream.collect.items - index)
        arguments = resolve(stream.with_, scope.values())
        await self._calls.check_allowed(stream.call, arguments, path)
        async with contextlib.aclosing(self._calls.items(left, stream.call, arguments, seconds)) as items:
            async for item in items:
                await self._journal.end(f"{path}.item#{index}", Outcome(item), 1)
                yield index, item
                index += 1

    async def _gather(self, work: Sequence[Callable[[], Awaitable[Json]]], width: int) -> list[Json]:
        """All results in order, `width` at a time; the first failure cancels the rest."""
        results: list[Json] = [None] * len(work)
        waiting = iter(enumerate(work))

        async def take() -> None:
            for index, one in waiting:
                results[index] = await one()

        if width == 1 or len(work) < 2:
            await take()
            return results
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(width, len(work))):
                    group.create_task(take())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return results

    async def _wait_for(self, step: Step, wait: WaitFor, path: str, scope: _Scope) -> Json:
        """Wait for an event; it must come while the step runs, and after a cut-off it is waited for anew."""
        topic = resolve(wait.event, scope.values())
        if not isinstance(topic, str):
            raise InvalidArgument(f"{path}.wait.event wants a topic, not {type(topic).__name__}")
        self._calls.refuse_unless_allowed(topic, f"{path}: this program may not wait for {topic}")
        await self._journal.begin(path, step, {"event": topic}, durable=False)
        async with contextlib.aclosing(self._port.events(topic)) as events:
            async for name, data in events:
                event = {"topic": name, "data": data}
                if is_true(resolve(wait.where, {**scope.values(), "event": event})):
                    await self._journal.end(path, Outcome(event), 1)
                    return event
        raise Unavailable(f"{path}: the events of {topic} ended")

    async def _wait(self, step: Step, path: str, scope: _Scope) -> Json:
        if isinstance(step.wait, WaitFor):
            return await self._wait_for(step, step.wait, path, scope)
        seconds = resolve(step.wait, scope.values()) if isinstance(step.wait, str) else step.wait
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            raise InvalidArgument(f"{path}.wait wants seconds, not {seconds!r}")
        begun_ms = self._journal.begun_ms(path)
        if begun_ms is None:
            await self._journal.begin(path, step, {"seconds": seconds}, durable=True)
        else:
            seconds = max(0.0, seconds - (time.time() - begun_ms / 1000))
        await self._sleep(seconds)
        await self._journal.end(path, Outcome(), 1)
        return None
