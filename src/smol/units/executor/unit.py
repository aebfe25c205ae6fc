"""The executor unit: checks programs, runs them while a caller waits, or durably on its own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from smol.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unavailable,
    nearest,
)
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.sdk import Attachment, Context, Unit, operation
from smol.sdk.uses import used_by
from smol.store import Options, Store
from smol.types import Json
from smol.units.executor.calls import Journal, Outcome
from smol.units.executor.check import Problem, check, operations_of
from smol.units.executor.engine import Engine
from smol.units.executor.journal import (
    MIGRATIONS,
    Memory,
    Run,
    RunJournal,
    StepRecord,
    end_run,
    find_run,
    history_of,
    insert_run,
    list_runs,
    pack,
    reopen_run,
    result_of,
    task_of,
)
from smol.units.executor.program import Limits, Source, parse

__all__ = ["Executor"]

Allowed: TypeAlias = list[str] | None
Files: TypeAlias = dict[str, Attachment] | None
Problems: TypeAlias = list[Problem]
Runs: TypeAlias = list[Run]
History: TypeAlias = list[StepRecord]
_POLL_SECONDS = 0.2


class Executor(Unit):
    """Programs of calls to other units: checked, run, and durable when asked."""

    def __init__(self) -> None:
        self._limits = Limits()
        self._store: Store | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._context: Context | None = None
        self._mark: Path | None = None

    async def provision(self, context: Context) -> None:
        try:
            self._limits = msgspec.convert(dict(context.settings), Limits)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"[units.executor] in smol.toml: {error}") from None
        path = context.data_dir / "runs.db"
        self._store = await asyncio.to_thread(Store.open, path, MIGRATIONS, Options())
        self._mark = context.data_dir / "resume"
        self._context = context

    async def serve(self, context: Context) -> None:
        """Go on with the runs that an earlier life of this worker left."""
        self._context = context
        left = await self._opened().read(lambda connection: list_runs(connection, "running", -1))
        self._note_unfinished(bool(left))
        for run in left:
            context.log.info("going on with run %s", run.id)
            self._launch(run.id)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    @operation(read_only=True)
    async def check(self, context: Context, program: str, allowed: Allowed = None) -> Problems:
        """List what is wrong with a program before it runs; nothing when it is right.

        program: its text, YAML or JSON.
        allowed: patterns of operations it may call, as `storage.*`; without them, those of the settings.
        """
        try:
            source = parse(program, self._limits)
        except InvalidArgument as error:
            details = error.details
            return [Problem(details.get("line", 0), details.get("path", ""), error.message)]
        return await self._problems(context, source, allowed)

    @operation()
    async def run(
        self,
        context: Context,
        program: str,
        input: Json = None,
        files: Files = None,
        allowed: Allowed = None,
    ) -> Json:
        """Run a program and wait for its result; it ends with this call.

        program: its text, YAML or JSON.
        input: what `input` refers to.
        files: attachments that are added to `input` by name.
        allowed: patterns of operations it may call, as `storage.*`; without them, those of the settings.
        """
        source = await self._checked(context, program, allowed)
        given = _with_files(input, files)
        return await self._execute(context, source, given, Memory(), uuid.uuid4().hex, self._patterns(allowed))

    @operation(idempotent=True)
    async def submit(
        self,
        context: Context,
        program: str,
        input: Json = None,
        files: Files = None,
        allowed: Allowed = None,
        idempotency_key: str = "",
    ) -> Run:
        """Start a durable run: it survives crashes and restarts, and is there to be asked about.

        program: its text, YAML or JSON.
        input: what `input` refers to.
        files: attachments that are added to `input` by name.
        allowed: patterns of operations it may call, as `storage.*`; without them, those of the settings.
        idempotency_key: the same key again gives the run it gave first.
        """
        source = await self._checked(context, program, allowed)
        given = pack(_with_files(input, files))
        if len(given) > self._limits.journal_bytes:
            raise ResourceExhausted(f"an input of {len(given)} bytes is beyond {self._limits.journal_bytes}")
        if len(self._tasks) >= self._limits.runs:
            raise ResourceExhausted(f"{len(self._tasks)} runs are going on: wait for one", retry_after_ms=1000)
        now_ms = int(time.time() * 1000)
        run = Run(id=uuid.uuid4().hex, name=source.program.name, state="running", created_ms=now_ms)
        key = idempotency_key or context.key
        patterns = self._patterns(allowed)
        stored: Run = await self._opened().write(
            lambda connection: insert_run(connection, run, program, given, patterns, key, self._limits.runs_kept)
        )
        if stored.id == run.id:
            self._launch(run.id)
        return stored

    @operation(read_only=True)
    async def status(self, run: str) -> Run:
        """Tell how a durable run is."""
        return await self._opened().read(lambda connection: find_run(connection, run))

    @operation(read_only=True)
    async def result(self, context: Context, run: str) -> Json:
        """Wait for the end of a durable run, and answer as the program did.

        run: its id.
        """
        while (outcome := await self._opened().read(lambda connection: result_of(connection, run))) is None:
            await self._wait_a_while(run)
        return outcome.take()

    @operation(read_only=True)
    async def list(
        self,
        state: Literal["", "running", "done", "failed", "cancelled"] = "",
        limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100,
    ) -> Runs:
        """List durable runs, the newest first.

        state: only those in it.
        """
        return await self._opened().read(lambda connection: list_runs(connection, state, limit))

    @operation(read_only=True)
    async def history(self, run: str) -> History:
        """List the steps of a durable run that began: what went in, what came out, and when."""
        return await self._opened().read(lambda connection: history_of(connection, run))

    @operation(idempotent=True)
    async def cancel(self, run: str) -> Run:
        """Stop a durable run; what its steps did stays done."""
        await self.status(run)
        task = self._tasks.get(run)
        outcome = Outcome(error=Cancelled("the run was cancelled"))
        await self._opened().write(lambda connection: end_run(connection, run, "cancelled", outcome))
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return await self.status(run)

    @operation(idempotent=True)
    async def resume(self, run: str) -> Run:
        """Let a durable run that failed or was cancelled go on from the step that did not succeed."""
        found: Run = await self._opened().write(lambda connection: reopen_run(connection, run))
        if found.state == "done":
            raise FailedPrecondition(f"run {run} is done: there is nothing to resume")
        self._launch(run)
        return found

    @operation(read_only=True)
    async def watch(self, run: str) -> AsyncIterator[StepRecord]:
        """Follow the steps of a durable run as they end, from its first one, until it ends."""
        seen: set[str] = set()
        while True:
            ended = (await self.status(run)).state != "running"
            for record in await self.history(run):
                if record.ended_ms is not None and record.path not in seen:
                    seen.add(record.path)
                    yield record
            if ended:
                return
            await self._wait_a_while(run)

    # ------------------------------------------------------------------------------------------

    def _opened(self) -> Store:
        if self._store is None:
            raise Unavailable("the journal is not open yet")
        return self._store

    def _note_unfinished(self, unfinished: bool) -> None:
        """A host starts the units that left this mark, without waiting for a call."""
        if self._mark is None:
            return
        if unfinished:
            self._mark.touch()
        else:
            self._mark.unlink(missing_ok=True)

    def _patterns(self, allowed: Allowed) -> Sequence[str]:
        return allowed if allowed is not None else self._limits.allowed

    async def _checked(self, context: Context, program: str, allowed: Allowed) -> Source:
        source = parse(program, self._limits)
        problems = await self._problems(context, source, allowed)
        if problems:
            text = "; ".join(f"line {found.line}: {found.path}: {found.message}" for found in problems[:10])
            raise InvalidArgument(f"the program has {len(problems)} problems: {text}", problems=len(problems))
        return source

    async def _problems(self, context: Context, source: Source, allowed: Allowed) -> Problems:
        port = _Port(context)
        operations = {name: await port.find(name) for name in operations_of(source)}
        problems = check(source, operations, self._limits, self._limits.allowed)
        return problems or check(source, operations, self._limits, self._patterns(allowed))

    async def _execute(
        self, context: Context, source: Source, given: Json, journal: Journal, run: str, allowed: Sequence[str],
        run_seconds: float | None = None,
    ) -> Json:  # fmt: skip
        engine = Engine(source.program, _Port(context), journal, self._limits, run=run, allowed=allowed)
        seconds = self._limits.run_seconds if run_seconds is None else run_seconds
        try:
            async with asyncio.timeout(seconds) as timer:
                return await engine.run(given)
        except TimeoutError:
            if not timer.expired():
                raise
            raise DeadlineExceeded(f"the program ran longer than {self._limits.run_seconds:g} s") from None

    def _launch(self, run: str) -> None:
        if run in self._tasks:
            return
        self._note_unfinished(True)
        task = asyncio.get_running_loop().create_task(self._live(run))
        self._tasks[run] = task
        task.add_done_callback(lambda _: self._tasks.pop(run, None))

    async def _live(self, run: str) -> None:
        """A durable run until its end; cut off, it stays `running` and goes on with the next worker."""
        store, context = self._opened(), self._context
        if context is None:
            raise Unavailable("the executor does not serve yet")
        try:
            program, given, allowed, created_ms = await store.read(partial(task_of, run=run))
            journal = RunJournal(store, run, self._limits.journal_bytes)
            await journal.load()
            left = max(0.0, self._limits.run_seconds - (time.time() - created_ms / 1000))
            source = parse(program, self._limits)
            value = await self._execute(context, source, given, journal, run, allowed, left)
            state, outcome = "done", Outcome(value)
        except SmolError as error:
            state, outcome = "failed", Outcome(error=error)
        except Exception as error:
            context.log.exception("run %s failed", run)
            state, outcome = "failed", Outcome(error=Internal(f"{type(error).__name__}: {error}"))
        await store.write(lambda connection: end_run(connection, run, state, outcome))
        if len(self._tasks) <= 1:  # This one is the last.
            self._note_unfinished(False)
        context.publish("ended", {"run": run, "state": state})

    async def _wait_a_while(self, run: str) -> None:
        task = self._tasks.get(run)
        if task is None:
            await asyncio.sleep(_POLL_SECONDS)
        else:
            await asyncio.wait([task], timeout=_POLL_SECONDS)


class _Port:
    """The operations of the system, as a program sees them. Descriptions are kept for its run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._units: dict[str, UnitDescription] = {}

    async def call(self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float, key: str) -> Json:
        return await self._context.call_with(operation, arguments, within_seconds=within_seconds, key=key)

    def stream(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float
    ) -> AsyncGenerator[Json, None]:
        return self._context.stream(operation, within_seconds=within_seconds, **arguments)

    def events(self, topic: str) -> AsyncGenerator[tuple[str, Json], None]:
        return self._context.events(topic)

    async def is_idempotent(self, operation: str) -> bool:
        found = await self.find(operation)
        if isinstance(found, str):
            raise NotFound(found)
        return found.idempotent or found.read_only

    async def uses(self, operation: str, arguments: Mapping[str, Json]) -> list[str]:
        found = await self.find(operation)
        return [] if isinstance(found, str) else used_by(found, arguments)

    async def memory_bytes(self, operation: str) -> int:
        try:
            usage: Any = await self._context.call("memory.usage", unit=operation.partition(".")[0])
        except SmolError:
            return 0
        return int(usage["measured_bytes"])

    async def find(self, operation: str) -> OperationDescription | str:
        """What an operation is, or why it can't be called."""
        unit, dot, name = operation.partition(".")
        if not dot:
            return f"{operation!r} is not an operation: write unit.operation, as math.evaluate"
        if unit not in self._units:
            try:
                described = await self._context.call("lifecycle.describe", unit=unit)
            except (NotFound, FailedPrecondition) as error:
                return error.message
            self._units[unit] = msgspec.convert(described, UnitDescription)
        operations = {entry.name: entry for entry in self._units[unit].operations}
        if name not in operations:
            known = ", ".join(operations)
            return f"unit {unit!r} has no operation {name!r}{nearest(name, operations)}; known: {known}"
        return operations[name]


def _with_files(given: Json, files: Files) -> Json:
    if not files:
        return given
    if given is not None and not isinstance(given, dict):
        raise InvalidArgument(f"files are added to an input that is an object, not {type(given).__name__}")
    return {**(given or {}), **files}
