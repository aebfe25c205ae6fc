"""The levers of the governor: what memory is for, why somebody was refused it, and what would fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec

from smol.errors import FailedPrecondition, InvalidArgument, SmolError
from smol.host.keeper import Keeper
from smol.host.loads import Loads
from smol.host.supervisor import Supervisor
from smol.policy.decisions import Event
from smol.policy.governor import Standing
from smol.policy.ledger import Kind
from smol.policy.plan import Fixed, Plan, Wish, plan
from smol.policy.workers import Model, Variant
from smol.sdk import Context, Unit, operation
from smol.sizes import parse_bytes
from smol.types import Json

__all__ = ["Memory"]

_KEPT_SECONDS = 60.0
"""A lease without a deadline of its own waits for room so long."""


class WorkerMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker may use and does.

    reserved_bytes: promised to it, with its models; limit_bytes: where the kernel stops it, 0 if nothing does;
    measured_bytes: in use at the last look, its proportional share of what is shared. models: loaded, as
    `unit/model:variant`.
    """

    name: str
    state: str
    reserved_bytes: int
    measured_bytes: int
    limit_bytes: int
    in_flight: int
    idle_seconds: float
    models: list[str]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What is reserved for something that is no worker: the host, the zygote, bodies of calls, sandboxes."""

    name: str
    kind: str
    size_bytes: int


class MemoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger, and what was measured beside it.

    guarantee: `hard` (the kernel keeps the budget), `process` or `none`; kept_by: what does; missing: what would
    make it better. used_bytes: by everything, as last measured; peak_bytes: the most there ever was.
    level: calm, soft (memory gets short: trim, unload, degrade) or hard (refuse, end who is over).
    decisions: how many there were of each kind since the host started.
    waiting: who waits for room. degraded: models below their best variant, by how many steps.
    """

    budget_bytes: int
    budget_reason: str
    guarantee: str
    kept_by: str
    missing: str
    reserved_bytes: int
    free_bytes: int
    used_bytes: int
    peak_bytes: int
    level: str
    level_reason: str
    waiting: int
    degraded: dict[str, int]
    workers: list[WorkerMemory]
    others: list[Share]
    decisions: dict[str, int]
    last_decision: str = ""


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """A decision. at: seconds since 1970. facts: what else it says, in bytes and names."""

    at: float
    decision: str
    reason: str
    facts: dict[str, Json]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What was reserved and in use at a moment, in bytes. at: seconds since 1970."""

    at: float
    reserved_bytes: int
    used_bytes: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a worker has reserved and uses; 0 while it does not run."""

    reserved_bytes: int
    measured_bytes: int


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A variant of a model that a unit could load. bytes: in use; load_bytes: while it loads, if that is more."""

    name: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    load_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    engine: str = ""
    threads: Annotated[int, msgspec.Meta(ge=1)] = 1


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit may load. ticket: for `settle`."""

    ticket: str
    variant: str


class Memory(Unit):
    """The memory budget: who holds it, why somebody was refused, what would fit."""

    def __init__(self, keeper: Keeper, loads: Loads, supervisor: Supervisor) -> None:
        self._keeper = keeper
        self._loads = loads
        self._supervisor = supervisor

    @operation(read_only=True)
    async def status(self) -> MemoryStatus:
        """Tell what is reserved and what is in use, by whom, and who keeps it within the budget."""
        return self._status()

    @operation(read_only=True)
    async def explain(
        self, subject: str = "", limit: Annotated[int, msgspec.Meta(ge=1, le=512)] = 20
    ) -> list[Occasion]:
        """Tell why somebody was refused, unloaded, degraded, ended or had to wait, newest decisions first.

        subject: a worker, unit or model (`unit/model`); empty for all.
        limit: at most so many.
        """
        journal = self._keeper.governor.journal
        if subject in self._supervisor.units:
            names = {subject, self._supervisor.worker(subject).name}
        else:
            names = {subject}
        events = [event for event in journal.events if not subject or any(map(event.concerns, names))]
        return [self._occasion(event) for event in reversed(events[-limit:])]

    @operation()
    async def trim(self, unload: bool = False) -> MemoryStatus:
        """Give back what nobody needs.

        unload: end all idle workers too, but pinned ones; their next calls start them again.
        """
        await self._keeper.give_back(unload=unload)
        return self._status()

    @operation(idempotent=True)
    async def pin(self, name: str) -> MemoryStatus:
        """Keep a worker: it is not unloaded to make room, nor for being idle. Lasts until the host stops.

        name: a unit or worker.
        """
        self._keeper.pin(self._supervisor.worker(name).name, True)
        return self._status()

    @operation(idempotent=True)
    async def unpin(self, name: str) -> MemoryStatus:
        """Let a worker be unloaded again.

        name: a unit or worker.
        """
        self._keeper.pin(self._supervisor.worker(name).name, False)
        return self._status()

    @operation(read_only=True)
    async def plan(self, units: list[str] | None = None, budget: str = "") -> Plan:
        """Tell what would fit: units with the models they have used, all in use at once.

        units: their names; all by default.
        budget: for example `512MiB`; the one in force by default.
        """
        names = units if units else sorted(self._supervisor.units)
        workers = dict.fromkeys(self._supervisor.worker(name) for name in names)
        governor = self._keeper.governor
        wishes = [
            Wish(governor.declared(worker.name), governor.models_of({s.manifest.name for s in worker.services}))
            for worker in workers
            if not worker.resident
        ]
        fixed = [
            Fixed(entry.key, entry.kind, entry.bytes)
            for entry in governor.standing(0.0).reservations
            if entry.kind in (Kind.HOST, Kind.ZYGOTE)
        ]
        size = parse_bytes(budget) if budget else governor.budget_bytes
        return plan(size, wishes, fixed, governor.costs.snapshot())

    @operation(idempotent=True)
    async def set_budget(self, budget: str) -> MemoryStatus:
        """Change the budget until the host stops. Lowered, idle workers go first; busy ones finish.

        budget: for example `1500MiB`; what the machine or an outer limit does not allow is not exceeded.
        """
        size = parse_bytes(budget)
        least = self._keeper.governor.fixed_bytes
        if size <= least:
            raise InvalidArgument(
                f"a budget of {budget} does not hold the host itself, which needs {least >> 20} MiB: give more"
            )
        self._keeper.set_budget(size)
        return self._status()

    @operation(read_only=True)
    async def watch(
        self, interval_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0
    ) -> AsyncIterator[MemoryStatus]:
        """Follow `status`.

        interval_seconds: time between two looks.
        """
        while True:
            yield self._status()
            await asyncio.sleep(interval_seconds)

    @operation(read_only=True)
    async def history(self, minutes: Annotated[float, msgspec.Meta(gt=0, le=1440)] = 10.0) -> list[Moment]:
        """What was reserved and in use, oldest first.

        minutes: how far to look back; an hour at most is kept.
        """
        since = time.time() - 60 * minutes
        return [Moment(at=at, reserved_bytes=r, used_bytes=u) for at, r, u in self._keeper.history if at >= since]

    @operation(read_only=True)
    async def usage(self, unit: str) -> Usage:
        """Tell what the worker of a unit has reserved, and uses at this moment.

        unit: name of a unit or worker.
        """
        worker = self._supervisor.worker(unit)
        reserved = self._keeper.governor.reserved_by(worker.name)
        return Usage(reserved_bytes=reserved, measured_bytes=self._keeper.size_bytes(worker.name))

    # For units -----------------------------------------------------------------------------------

    @operation()
    async def reserve(
        self, unit: str, model: str, forms: list[Form], context: Context, repeatable: bool = False
    ) -> Reservation:
        """For units: reserve memory for a model before it is loaded. `settle` must follow.

        unit: the unit that loads it, in the worker that calls.
        model: its name.
        forms: its variants, best first; the answer says which one to load.
        repeatable: whether the call that needs it can be made again, rather than wait for room with what it holds.
        """
        try:
            wanted = Model(unit, model, tuple(_variant(form) for form in forms))
        except SmolError as error:
            raise InvalidArgument(error.message) from error
        deadline = asyncio.get_running_loop().time() + _seconds_left(context)
        admit = await self._loads.load(_worker_of(context), wanted, deadline, repeatable=repeatable)
        return Reservation(ticket=admit.ticket, variant=admit.variant or wanted.variants[0].name)

    @operation()
    async def settle(self, ticket: str, loaded: bool, context: Context) -> None:
        """For units: say that a model is loaded, or could not be.

        ticket: as `reserve` gave it.
        loaded: whether it is loaded.
        """
        _worker_of(context)
        self._loads.settle(ticket, loaded=loaded)

    @operation()
    async def release(self, unit: str, model: str, context: Context) -> None:
        """For units: say that a model was let go.

        unit: the unit that had loaded it.
        model: its name.
        """
        self._loads.unloaded(_worker_of(context), f"{unit}/{model}")

    @operation()
    async def lease(
        self, bytes: Annotated[int, msgspec.Meta(ge=0)], what: str, context: Context
    ) -> AsyncIterator[Share]:
        """For units: memory for processes of their own, for as long as this stream is open. Its one item says yes.

        bytes: how much.
        what: what for, in a word.
        """
        worker = _worker_of(context)
        async with self._keeper.lease(worker, what, bytes, _seconds_left(context)):
            yield Share(name=what, kind=Kind.SANDBOX.value, size_bytes=bytes)
            await asyncio.Event().wait()

    # Within --------------------------------------------------------------------------------------

    def _status(self) -> MemoryStatus:
        keeper = self._keeper
        keeper.look()
        standing = keeper.governor.standing(asyncio.get_running_loop().time())
        last = keeper.governor.journal.events[-1] if keeper.governor.journal.events else None
        return MemoryStatus(
            budget_bytes=standing.budget_bytes,
            budget_reason=keeper.allowance.budget.reason,
            guarantee=keeper.allowance.enforcement.guarantee,
            kept_by=keeper.allowance.enforcement.means,
            missing=keeper.allowance.enforcement.missing,
            reserved_bytes=standing.reserved_bytes,
            free_bytes=max(0, standing.free_bytes),
            used_bytes=keeper.used_bytes,
            peak_bytes=keeper.peak_bytes,
            level=standing.level,
            level_reason=standing.level_reason,
            waiting=standing.queued,
            degraded=standing.steps,
            workers=self._workers(standing),
            others=_others(standing),
            decisions=dict(keeper.governor.journal.counts),
            last_decision=last.decision.reason if last is not None else "",
        )

    def _workers(self, standing: Standing) -> list[WorkerMemory]:
        return [
            WorkerMemory(
                name=entry.worker,
                state=entry.state,
                reserved_bytes=entry.reserved_bytes,
                measured_bytes=entry.measured_bytes,
                limit_bytes=self._keeper.limit_bytes(entry.worker),
                in_flight=entry.in_flight,
                idle_seconds=entry.idle_seconds,
                models=list(entry.variants),
            )
            for entry in standing.workers
        ]

    def _occasion(self, event: Event) -> Occasion:
        facts: dict[str, Any] = msgspec.to_builtins(event.decision)
        return Occasion(
            at=time.time() - asyncio.get_running_loop().time() + event.at,
            decision=facts.pop("type"),
            reason=facts.pop("reason"),
            facts={name: value for name, value in facts.items() if value not in (None, "", [])},
        )


def _others(standing: Standing) -> list[Share]:
    sizes: dict[tuple[str, str], int] = {}
    for entry in standing.reservations:
        if entry.worker is None:
            name = entry.key if entry.kind in (Kind.HOST, Kind.ZYGOTE, Kind.CACHE) else entry.kind.value
            sizes[name, entry.kind.value] = sizes.get((name, entry.kind.value), 0) + entry.bytes
    return [Share(name=name, kind=kind, size_bytes=size) for (name, kind), size in sizes.items()]


def _variant(form: Form) -> Variant:
    return Variant(form.name, form.bytes, form.load_bytes, form.engine, form.threads)


def _worker_of(context: Context) -> str:
    """The worker that calls. Raises FailedPrecondition for anybody else."""
    if not context.caller:
        raise FailedPrecondition("this is for units, which reserve the memory of what they load; clients can't")
    return context.caller


def _seconds_left(context: Context) -> float:
    left = context.deadline_seconds()
    return _KEPT_SECONDS if left is None else left
