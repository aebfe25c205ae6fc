"""All workers: who serves which unit, in which order they start and stop, and whether they are alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from smol.errors import InvalidArgument, NotFound, Unavailable, nearest
from smol.host.bus import Bus, Service
from smol.host.keeper import Keeper
from smol.host.manifest import Manifest
from smol.host.settings import MemorySettings
from smol.host.worker import HostedWorker, PlanFor
from smol.policy.lifecycle import WorkerState, start_order
from smol.policy.workers import Worker

__all__ = ["Supervisor"]

_log = logging.getLogger("smol.host")


class Supervisor:
    """Holds the workers. Units are added and removed while it runs."""

    def __init__(
        self,
        bus: Bus,
        keeper: Keeper,
        memory: MemorySettings,
        *,
        ping_interval_seconds: float,
        ping_timeout_seconds: float,
    ) -> None:
        self.workers: dict[str, HostedWorker] = {}
        self._bus = bus
        self._keeper = keeper
        self._memory = memory
        self._interval_seconds = ping_interval_seconds
        self._timeout_seconds = ping_timeout_seconds
        self._watch: asyncio.Task[None] | None = None
        self._services = True
        self._renewing: set[asyncio.Task[None]] = set()
        self._leaving: set[HostedWorker] = set()

    @property
    def units(self) -> Collection[str]:
        """The names of all units."""
        return self._bus.services.keys()

    def start(self, unfinished: Callable[[str], bool], *, services: bool = True) -> None:
        """Start the workers that are to run always or have a unit with `unfinished` work, and watch all.

        services: whether to start workers that serve a face, too; a call starts them all the same.
        """
        self._services = services
        self._watch = asyncio.get_running_loop().create_task(self._ping())
        for name in self._order():
            worker = self.workers[name]
            left = any(unfinished(service.manifest.name) for service in worker.services)
            if self._starts_itself(worker) or self._warm(worker) or left:
                worker.try_demand()

    def admit(self, manifest: Manifest, plan_for: PlanFor) -> HostedWorker:
        """Give a unit its worker. Raises InvalidArgument when it can't be, and then nothing has changed."""
        name = manifest.worker
        self._check(manifest)
        worker = self.workers.get(name)
        if worker is None:
            worker = self.workers[name] = HostedWorker(name, self._bus, self._keeper, plan_for)
        service = Service(manifest, worker)
        worker.services.append(service)
        self._declare(worker)
        self._bus.services[manifest.name] = service
        if worker.state in (WorkerState.STARTING, WorkerState.READY):
            worker.ask_to_stop()  # It was started without this unit.
            self._renew(worker)
        elif self._watch is not None and self._starts_itself(worker):
            worker.try_demand()
        self._give_hope(manifest.name)
        return worker

    def revive(self, worker: HostedWorker) -> None:
        """A worker may run again: give it and those that need it a new chance, and start what runs always."""
        worker.reset()
        if self._watch is not None and self._starts_itself(worker):
            worker.try_demand()
        for service in worker.services:
            self._give_hope(service.manifest.name)

    def _give_hope(self, unit: str) -> None:
        """What can't run may have failed for want of this unit."""
        for other in self.workers.values():
            if not other.usable and any(unit in service.manifest.needs for service in other.services):
                other.reset()

    @property
    def needs(self) -> dict[str, set[str]]:
        """Which workers each worker needs."""
        return self._worker_needs()

    async def replace(self, manifest: Manifest) -> None:
        """Give a unit a new manifest, for the same worker: running calls finish, new ones wait for its next
        life. Raises InvalidArgument when it can't be, and then nothing has changed.
        """
        self._check(manifest)
        service = self._bus.services[manifest.name]
        service.follow(manifest)
        self._declare(service.worker)
        await service.worker.renew()

    async def dismiss(self, name: str, error: Unavailable) -> None:
        """Take a unit away: new calls do not find it, running ones finish, waiting ones get `error`."""
        service = self._bus.services.pop(name)
        worker = service.worker
        self._bus.refuse_waiting(service, error)
        if len(worker.services) > 1:
            worker.services.remove(service)
            await worker.renew()
            return
        if self.workers.get(worker.name) is worker:
            del self.workers[worker.name]  # Whoever comes by this name now gets another.
        self._leaving.add(worker)
        try:
            await worker.stop()
        finally:
            self._leaving.discard(worker)
            worker.services.remove(service)

    def worker(self, name: str) -> HostedWorker:
        """A worker by its own name or that of a unit it serves. Raises NotFound."""
        if name in self._bus.services:
            return self._bus.services[name].worker
        if name in self.workers:
            return self.workers[name]
        known = sorted({*self.workers, *self._bus.services})
        raise NotFound(f"no unit or worker {name!r}{nearest(name, known)}; known: {', '.join(known)}")

    async def wait_ready(self, unit: str) -> None:
        """Start what serves a unit and wait for it. Raises Unavailable."""
        if unit not in self._bus.services:
            raise Unavailable(f"unit {unit!r} is needed and not there: add it")
        if (refusal := self._bus.refusal(unit)) is not None:
            raise refusal
        await self._bus.services[unit].worker.wait_ready()

    async def stop(self) -> None:
        """Stop all workers at once, but those that others need after these."""
        for task in (self._watch, *self._renewing):
            if task is not None:
                task.cancel()
        for service in self._bus.services.values():
            self._bus.refuse_waiting(service, Unavailable("the host is shutting down"))
        needs = self._worker_needs()
        stopping: dict[str, asyncio.Task[None]] = {}
        for name in reversed(self._order()):
            first = [task for other, task in stopping.items() if name in needs[other]]
            stopping[name] = asyncio.get_running_loop().create_task(_stop_after(first, self.workers[name]))
        await asyncio.gather(*stopping.values(), *(worker.stop() for worker in self._leaving))

    def _warm(self, worker: HostedWorker) -> bool:
        return self._names(self._memory.warm, worker) or any(service.manifest.warm for service in worker.services)

    def _names(self, names: Iterable[str], worker: HostedWorker) -> bool:
        """Whether a worker, or one of its units, is among `names`."""
        return not {worker.name, *(service.manifest.name for service in worker.services)}.isdisjoint(names)

    def _declare(self, worker: HostedWorker) -> None:
        """Tell the keeper what a worker needs by what its units declare."""
        if worker.resident:
            return
        manifests = [service.manifest for service in worker.services]
        configured = self._memory.idle_seconds
        idle = [
            configured.get(manifest.name, configured.get(worker.name, manifest.idle_seconds))
            for manifest in manifests
        ]
        self._keeper.declare(
            Worker(
                worker.name,
                sum(manifest.reserved_bytes for manifest in manifests),
                pinned=worker.always
                or any(manifest.pinned for manifest in manifests)
                or self._names(self._memory.pinned, worker),
                weight=max(manifest.weight for manifest in manifests),
                idle_seconds=max(idle),
            )
        )

    def _starts_itself(self, worker: HostedWorker) -> bool:
        serves = any(service.manifest.kind == "service" for service in worker.services)
        return worker.always and (self._services or not serves)

    def _order(self) -> list[str]:
        """Workers, each after those it needs."""
        return start_order(self._worker_needs())

    def _check(self, manifest: Manifest) -> None:
        """Raises InvalidArgument when a unit can't have this manifest beside the others."""
        name = manifest.worker
        others = [service.manifest for service in self._bus.services.values()]
        others = [other for other in others if other.name != manifest.name]
        sharing = [other for other in others if other.worker == name]
        if any(other.executable for other in (manifest, *sharing)) and sharing:
            raise InvalidArgument(
                f"unit {manifest.name!r} can't share worker {name!r}: an executable serves its own unit only"
            )
        if manifest.path is not None and name in self.workers and self.workers[name].resident:
            raise InvalidArgument(f"unit {manifest.name!r} can't share worker {name!r}, which is the host itself")
        start_order({other.name: other.needs for other in (*others, manifest)})
        start_order(_needs_of_workers((*others, manifest)))

    def _worker_needs(self) -> dict[str, set[str]]:
        return _needs_of_workers([service.manifest for service in self._bus.services.values()])

    def _renew(self, worker: HostedWorker) -> None:
        task = asyncio.get_running_loop().create_task(worker.renew())
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._interval_seconds)
            for worker in list(self.workers.values()):
                worker.ping(loop.time(), self._timeout_seconds)


async def _stop_after(first: Iterable[asyncio.Task[None]], worker: HostedWorker) -> None:
    await asyncio.gather(*first)
    await worker.stop()


def _needs_of_workers(manifests: Iterable[Manifest]) -> dict[str, set[str]]:
    """Which workers each needs for its units. Units that share one are ready together."""
    manifests = list(manifests)
    homes = {manifest.name: manifest.worker for manifest in manifests}
    needs: dict[str, set[str]] = {manifest.worker: set() for manifest in manifests}
    for manifest in manifests:
        needs[manifest.worker] |= {homes[need] for need in manifest.needs if need in homes} - {manifest.worker}
    return needs
