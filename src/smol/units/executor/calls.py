"""How an operation is called for a step: once or more often, until a deadline, never twice where that could harm.

Covers one call, or one stream. Which step comes when is `engine`'s.
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

from smol.errors import FailedPrecondition, PermissionDenied, ResourceExhausted, SmolError
from smol.types import Json
from smol.units.executor.check import is_allowed
from smol.units.executor.program import Collect, Limits, Retry, Step

__all__ = ["UNCERTAIN", "Calls", "Journal", "Outcome", "Port"]

UNCERTAIN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "DATA_LOSS"})
"""Codes after which nobody knows whether the operation took effect."""


class Outcome(msgspec.Struct, frozen=True):
    """How a step ended: with a value or an error. memory_bytes: in use by who served it, then; 0 if not known."""

    value: Json = None
    error: SmolError | None = None
    memory_bytes: int = 0

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

    async def uses(self, operation: str, arguments: Mapping[str, Json]) -> list[str]: ...

    async def memory_bytes(self, operation: str) -> int:
        """What the worker that serves an operation uses now; 0 if nobody knows."""


class Journal(Protocol):
    """What is remembered of a run, by the path of a step. keeps: whether it is."""

    keeps: bool

    def ended(self, path: str) -> Outcome | None: ...

    def begun_ms(self, path: str) -> int | None:
        """When a step began whose `begin` was durable; None when it did not."""

    async def begin(self, path: str, step: Step, given: Json, *, durable: bool) -> None: ...

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None: ...


class Calls:
    """The calls of one run. run: its id, part of the idempotency keys. allowed: patterns of operations."""

    def __init__(
        self,
        port: Port,
        journal: Journal,
        limits: Limits,
        run: str,
        allowed: Sequence[str],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._port = port
        self._journal = journal
        self._limits = limits
        self._run = run
        self._allowed = allowed
        self._sleep = sleep

    async def check_allowed(self, operation: str, arguments: Json, path: str) -> None:
        """Raises PermissionDenied for a call that the program may not make, or that makes one for it."""
        self.refuse_unless_allowed(operation, f"{path}: this program may not call {operation}")
        for used in await self._port.uses(operation, arguments):
            refusal = f"{path}: {operation} calls {used} with these arguments, which this program may not"
            self.refuse_unless_allowed(used, refusal)

    def refuse_unless_allowed(self, name: str, refusal: str) -> None:
        """Raises PermissionDenied for an operation or a topic that is not on the list."""
        if not is_allowed(name, self._allowed):
            raise PermissionDenied(refusal)

    async def call(self, step: Step, operation: str, arguments: Json, path: str) -> Json:
        """Call for a step, whose arguments are resolved, and remember how that ended. Raises the SmolError."""
        await self.check_allowed(operation, arguments, path)
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
        if self._journal.keeps:
            outcome = msgspec.structs.replace(outcome, memory_bytes=await self._port.memory_bytes(operation))
        await self._journal.end(path, outcome, attempts)
        return outcome.take()

    async def items(
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
                    items = self.items(step.collect, operation, arguments, left)
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
