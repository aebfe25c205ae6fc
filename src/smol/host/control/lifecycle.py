"""The `lifecycle` unit: what units there are, how their workers are, and starting and stopping them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from smol import __version__
from smol.errors import InvalidArgument
from smol.host.allowance import Allowance
from smol.host.bus import Bus
from smol.host.launcher import Launcher
from smol.host.memory import cpu_seconds, pss_bytes
from smol.host.registry import Registry
from smol.host.supervisor import Supervisor
from smol.host.worker import HostedWorker
from smol.protocol.messages import UnitDescription
from smol.sdk import Unit, operation

__all__ = ["Lifecycle"]


class UnitEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A unit and how it is. error: why it is not usable, or why its worker ended last."""

    name: str
    kind: str
    state: str
    worker: str
    description: str
    version: str = "0"
    path: str = ""
    error: str = ""


class ProcessEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A process of Smol. pss_bytes: proportional share of memory; 0 where the system does not tell.

    uptime_seconds: since its state changed last. ready_seconds: from start to ready. calls_total: that have
    finished since the host started. cpu_seconds: used by the process.
    """

    name: str
    state: str
    pid: int = 0
    units: list[str] = []
    pss_bytes: int = 0
    calls: int = 0
    waiting: int = 0
    starts: int = 0
    crashes: int = 0
    uptime_seconds: float = 0.0
    ready_seconds: float = 0.0
    calls_total: int = 0
    cpu_seconds: float = 0.0


class HostEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The host itself. calls: answered or refused since it started.

    budget_bytes: what is in force, budget_reason: why so much. guarantee: `hard` (the kernel keeps the budget),
    `process` or `none`; kept_by: what does, missing: what would make it better. peak_bytes: the most that was
    ever in use, 0 when the kernel does not count it.
    """

    version: str
    pid: int
    socket: str
    uptime_seconds: float
    clients: int
    calls: int
    budget_bytes: int
    budget_reason: str
    guarantee: str
    kept_by: str
    pss_bytes: int
    peak_bytes: int = 0
    missing: str = ""


class Lifecycle(Unit):
    """Units and their workers: list, describe, add, remove, start and stop them."""

    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        bus: Bus,
        launcher: Launcher,
        socket: str,
        allowance: Allowance,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._bus = bus
        self._launcher = launcher
        self._socket = socket
        self._allowance = allowance
        self._started = time.time()

    @operation(read_only=True)
    async def units(self) -> list[UnitEntry]:
        """List all units, those that are broken included."""
        entries = [
            UnitEntry(
                name=name,
                kind=service.manifest.kind,
                state=service.worker.state,
                worker=service.worker.name,
                description=service.manifest.description,
                version=service.manifest.version,
                path=str(service.manifest.path or ""),
                error=str(service.worker.error or ""),
            )
            for name, service in sorted(self._bus.services.items())
        ]
        return entries + [
            UnitEntry(name=found.name, kind="", state="unavailable", worker="", description="", path=found.where,
                      error=str(found.error))
            for found in self._registry.broken.values()
        ]  # fmt: skip

    @operation(read_only=True)
    async def describe(self, unit: str) -> UnitDescription:
        """Describe a unit: its operations with their schemas and documentation.

        unit: name of the unit.
        """
        return await self._registry.describe(unit)

    @operation(read_only=True)
    async def processes(self) -> list[ProcessEntry]:
        """List the host, the zygote and all workers, with their memory."""
        entries = [
            ProcessEntry(name="host", state="ready", pid=os.getpid(), pss_bytes=pss_bytes(os.getpid()),
                         uptime_seconds=time.time() - self._started, calls_total=self._bus.calls_total,
                         cpu_seconds=cpu_seconds(os.getpid()))
        ]  # fmt: skip
        zygote = self._launcher.zygote_pid
        if zygote is not None:
            entries.append(ProcessEntry(name="zygote", state="ready", pid=zygote, pss_bytes=pss_bytes(zygote),
                                        cpu_seconds=cpu_seconds(zygote)))  # fmt: skip
        return entries + [_entry(worker) for _, worker in sorted(self._supervisor.workers.items())]

    @operation(read_only=True)
    async def status(self) -> HostEntry:
        """Tell how the host is."""
        processes = await self.processes()
        return HostEntry(
            version=__version__,
            pid=os.getpid(),
            socket=self._socket,
            uptime_seconds=time.time() - self._started,
            clients=len(self._bus.clients),
            calls=self._bus.calls_total,
            budget_bytes=self._allowance.budget.bytes,
            budget_reason=self._allowance.budget.reason,
            guarantee=self._allowance.enforcement.guarantee,
            kept_by=self._allowance.enforcement.means,
            missing=self._allowance.enforcement.missing,
            peak_bytes=self._allowance.peak_bytes,
            pss_bytes=sum(process.pss_bytes for process in processes),
        )

    @operation()
    async def add(self, path: str) -> UnitEntry:
        """Load the unit in a directory that holds a `unit.toml`.

        path: absolute path of the directory, on the host's machine.
        """
        if not os.path.isabs(path):
            raise InvalidArgument(
                f"{path!r} is a relative path; the host can't know from where: give an absolute one"
            )
        manifest = await self._registry.add(Path(path))
        return next(entry for entry in await self.units() if entry.name == manifest.name)

    @operation(destructive=True)
    async def remove(self, unit: str) -> None:
        """Drain a unit and forget it; its files stay."""
        await self._registry.remove(unit)

    @operation()
    async def reload(self, unit: str) -> UnitEntry:
        """Read a unit's manifest again, and run its present code from the next call on."""
        await self._registry.reload(unit)
        return next(entry for entry in await self.units() if entry.name == unit)

    @operation(idempotent=True)
    async def start(self, name: str) -> ProcessEntry:
        """Start a worker and wait until it is ready; one that has failed gets a new chance.

        name: a unit or worker.
        """
        worker = self._supervisor.worker(name)
        worker.reset()
        await worker.wait_ready()
        return _entry(worker)

    @operation(idempotent=True)
    async def stop(self, name: str) -> ProcessEntry:
        """Let a worker finish what it has, and end it; the next call starts it again.

        name: a unit or worker.
        """
        worker = self._resident_refused(name)
        await worker.stop()
        return _entry(worker)

    @operation()
    async def restart(self, name: str) -> ProcessEntry:
        """Stop a worker and start it again.

        name: a unit or worker.
        """
        worker = self._resident_refused(name)
        await worker.stop()
        worker.reset()
        await worker.wait_ready()
        return _entry(worker)

    def _resident_refused(self, name: str) -> HostedWorker:
        worker = self._supervisor.worker(name)
        if worker.resident:
            raise InvalidArgument(f"{name!r} lives in the host: it stops with it")
        return worker


def _entry(worker: HostedWorker) -> ProcessEntry:
    pid = worker.process.pid if worker.process is not None else 0
    loads = [service.load for service in worker.services]
    return ProcessEntry(
        name=worker.name,
        state=worker.state,
        pid=pid,
        units=[service.manifest.name for service in worker.services],
        pss_bytes=pss_bytes(pid) if pid else 0,
        calls=sum(load.in_flight for load in loads),
        waiting=sum(load.waiting for load in loads),
        starts=worker.starts,
        crashes=worker.crashes,
        uptime_seconds=time.time() - worker.since,
        ready_seconds=worker.ready_seconds,
        calls_total=sum(load.total for load in loads),
        cpu_seconds=cpu_seconds(pid),
    )
