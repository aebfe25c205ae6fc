"""Runs a checked program: what follows what, what fails, what is tried again.

Knows neither processes nor files: it calls through a `Port` and remembers through a `Journal`. Running
a program again with the journal of a run that was cut off continues that run: steps that had ended are
answered from the journal, so a program must take the same way again. It does, since nothing but results
of steps decides the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from smol.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.types import Json
from smol.units.executor.check import is_allowed
from smol.units.executor.program import Collect, Limits, Program, Retry, Step, Stream, WaitFor
from smol.units.executor.references import is_true, resolve

__all__ = ["UNCERTAIN", "Engine", "Journal", "Outcome", "Port"]

UNCERTAIN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "DATA_LOSS"})
"""Codes after which nobody knows whether the operation took effect."""


class Outcome(msgspec.Struct, frozen=True):
    """How a step ended: with a value or an error."""

    value: Json = None
    error: SmolError | None = None

    def take(self) -> Json:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Port(Protocol):
    """The way to the operations."""

    async def call(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float, key: str
    ) -> Json: ...

    def stream(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float
    ) -> AsyncGenerator[Json, None]: ...

    def events(self, topic: str) -> AsyncGenerator[tuple[str, Json], None]: ...

    async def is_idempotent(self, operation: str) -> bool: ...


class Journal(Protocol):
    """What is remembered of a run, by the path of a step."""

    def ended(self, path: str) -> Outcome | None: ...

    def begun_ms(self, path: str) -> int | None:
        """When a step began whose `begin` was durable; None when it did not."""

    async def begin(self, path: str, step: Step, given: Json, *, durable: bool) -> None: ...

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None: ...


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
        self._run = run
        self._allowed = allowed
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
            return await self._call(step, step.call, path, scope)
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
        if not is_allowed(stream.call, self._allowed):
            raise PermissionDenied(f"{path}: this program may not call {stream.call}")
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
        async with contextlib.aclosing(self._items(left, stream.call, arguments, seconds)) as items:
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
        if not is_allowed(topic, self._allowed):
            raise PermissionDenied(f"{path}: this program may not wait for {topic}")
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

    async def _call(self, step: Step, operation: str, path: str, scope: _Scope) -> Json:
        if not is_allowed(operation, self._allowed):
            raise PermissionDenied(f"{path}: this program may not call {operation}")
        arguments = resolve(step.with_, scope.values())
        idempotent = await self._port.is_idempotent(operation)
        if not idempotent and self._journal.begun_ms(path) is not None:
            raise FailedPrecondition(
                f"{path}: {operation} was cut off, and may or may not have had its effect; since it is not "
                "idempotent it is not called again. Look, and catch FAILED_PRECONDITION to go on",
                cut_off=True,
            )
        await self._journal.begin(path, step, arguments, durable=not idempotent)
        seconds = min(step.timeout_seconds or self._limits.step_seconds, self._limits.run_seconds)
        key = f"{self._run}/{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        outcome, attempts = await self._attempts(step, operation, arguments, key, seconds, idempotent)
        await self._journal.end(path, outcome, attempts)
        return outcome.take()

    async def _items(
        self, wanted: Collect, operation: str, arguments: Json, within_seconds: float
    ) -> AsyncGenerator[Json, None]:
        """The first items of a stream, which is then cancelled."""
        end = None if wanted.seconds is None else asyncio.get_running_loop().time() + wanted.seconds
        stream = self._port.stream(operation, arguments, within_seconds=within_seconds)
        async with contextlib.aclosing(stream):
            for _ in range(wanted.items):
                try:
                    async with asyncio.timeout_at(end) as timer:
                        item = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if timer.expired():
                        return
                    raise
                yield item

    async def _attempts(
        self, step: Step, operation: str, arguments: Json, key: str, seconds: float, idempotent: bool
    ) -> tuple[Outcome, int]:
        """Call until it answers, or fails for good. A refusal for want of room is waited out."""
        retry = step.retry or Retry(attempts=1)
        deadline = time.monotonic() + seconds
        attempt, pause = 1, retry.wait_seconds
        while True:
            try:
                left = deadline - time.monotonic()
                if step.collect is not UNSET:
                    items = self._items(step.collect, operation, arguments, left)
                    async with contextlib.aclosing(items):
                        return Outcome([item async for item in items]), attempt
                return Outcome(await self._port.call(operation, arguments, within_seconds=left, key=key)), attempt
            except SmolError as error:
                refused_ms = error.details.get("retry_after_ms") if error.code == ResourceExhausted.code else None
                if isinstance(refused_ms, int | float):
                    wait_seconds = max(refused_ms / 1000, 0.01)
                else:
                    unsure = not idempotent and error.code in UNCERTAIN
                    if unsure or attempt >= retry.attempts or error.code not in retry.on:
                        return Outcome(error=error), attempt
                    attempt += 1
                    wait_seconds = min(pause, retry.longest_wait_seconds)
                    pause *= retry.factor
                if time.monotonic() + wait_seconds >= deadline:
                    return Outcome(error=error), attempt
            await self._sleep(wait_seconds)
