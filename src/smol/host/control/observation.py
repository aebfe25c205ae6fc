"""What the `lifecycle` unit tells: logs, events, how the host started and stopped, health, and the graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec

from smol.host.boot import Boot, BootRecord
from smol.host.bus import Bus
from smol.host.diary import Diary, HostEvent
from smol.host.graph import render_dot, render_text
from smol.host.logs import LogLine, Logs
from smol.host.registry import Registry
from smol.host.supervisor import Supervisor
from smol.host.switches import Switches
from smol.policy.lifecycle import WorkerState
from smol.sdk import Unit, operation

__all__ = ["Observation", "Records"]

_TROUBLED = (WorkerState.BACKING_OFF, WorkerState.FAILED, WorkerState.UNAVAILABLE)


class Records(msgspec.Struct, frozen=True):
    """What the host notes about itself."""

    logs: Logs
    boot: Boot
    diary: Diary
    switches: Switches


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be. name: of a unit or worker."""

    name: str
    state: str
    reason: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How Smol is. status: `ok`; `degraded` when units that should work do not; `stopping`.

    off: units that are disabled or drained, which is no problem: somebody wanted it.
    """

    status: str
    problems: list[Problem] = []
    off: list[str] = []


class Observation(Unit):
    """Looks back at what the host and its workers did."""

    def __init__(self, registry: Registry, supervisor: Supervisor, bus: Bus, records: Records) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._bus = bus
        self._records = records

    @operation(read_only=True)
    async def logs(
        self, name: str, lines: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 50, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Show what a unit's worker wrote: its log, and whatever it printed.

        Lines that come too fast are dropped and counted; the oldest go when the log is full.

        name: a unit or worker; `host` for the host itself.
        lines: how many of the last ones.
        follow: go on with each line that comes.
        """
        book = self._records.logs.book("host" if name == "host" else self._supervisor.worker(name).name)
        if not follow:
            for line in book.tail(lines):
                yield line
            return
        async for line in book.follow(lines):
            yield line

    @operation(read_only=True)
    async def events(
        self, since: Annotated[int, msgspec.Meta(ge=0)] = 0, follow: bool = False
    ) -> AsyncIterator[HostEvent]:
        """Show what happened in this host: changes of workers and units, decisions about memory.

        The last 500 events are kept.

        since: only those with a greater sequence number.
        follow: go on with each event that comes.
        """
        async for event in self._records.diary.read(since, follow=follow):
            yield event

    @operation(read_only=True)
    async def boot(self) -> BootRecord:
        """Tell what started when and how long it took, and the same of the last stop."""
        return self._records.boot.record(self._supervisor.needs)

    @operation(read_only=True)
    async def graph(self, form: Literal["text", "dot"] = "text") -> str:
        """Draw which units need which.

        form: text for people, dot for Graphviz.
        """
        manifests = [service.manifest for service in self._bus.services.values()]
        return render_dot(manifests) if form == "dot" else render_text(manifests)

    @operation(read_only=True)
    async def health(self) -> Health:
        """Tell whether everything works that should."""
        problems = [
            Problem(name=worker.name, state=worker.state, reason=str(worker.error or worker.last_words))
            for worker in self._supervisor.workers.values()
            if worker.state in _TROUBLED
        ]
        problems += [
            Problem(name=found.name, state="unavailable", reason=str(found.error))
            for found in self._registry.broken.values()
        ]
        off = sorted(name for name in self._bus.services if self._records.switches.refusal(name) is not None)
        status = "stopping" if self._bus.draining else "degraded" if problems else "ok"
        return Health(status=status, problems=problems, off=off)
