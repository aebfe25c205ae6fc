"""All workers: who serves which unit, in which order they start and stop, and whether they are alive."""

from __future__ import annotations

import asyncio
import logging

from smol.errors import InvalidArgument, NotFound, Unavailable, nearest
from smol.host.bus import Bus, Service
from smol.host.manifest import Manifest
from smol.host.worker import HostedWorker, PlanFor
from smol.policy.lifecycle import start_order

__all__ = ["Supervisor"]

_log = logging.getLogger("smol.host")


class Supervisor:
    """Holds the workers. Units are added and removed while it runs."""

    def __init__(self, bus: Bus, *, ping_interval_seconds: float, ping_timeout_seconds: float) -> None:
        self.workers: dict[str, HostedWorker] = {}
        self._bus = bus
        self._interval_seconds = ping_interval_seconds
        self._timeout_seconds = ping_timeout_seconds
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the workers that are to run always, in dependency order, and watch all."""
        self._watch = asyncio.get_running_loop().create_task(self._ping())
        for name in self._order():
            worker = self.workers[name]
            if any(service.manifest.restart == "always" for service in worker.services):
                worker.demand()

    def admit(self, manifest: Manifest, plan_for: PlanFor) -> HostedWorker:
        """Give a unit its worker. Raises InvalidArgument when it can't be, and then nothing has changed."""
        name = manifest.worker
        needs = self._needs()
        needs.setdefault(manifest.name, set()).update(manifest.needs)
        start_order(needs)
        worker = self.workers.get(name)
        if worker is not None and (
            manifest.command or any(service.manifest.command for service in worker.services)
        ):
            raise InvalidArgument(
                f"unit {manifest.name!r} can't share worker {name!r}: an executable serves its own unit only"
            )
        if worker is None:
            worker = self.workers[name] = HostedWorker(name, self._bus, plan_for)
        service = Service(manifest, worker)
        worker.services.append(service)
        self._bus.services[manifest.name] = service
        return worker

    async def dismiss(self, name: str, error: Unavailable) -> None:
        """Take a unit away: new calls do not find it, running ones finish, waiting ones get `error`."""
        service = self._bus.services.pop(name)
        worker = service.worker
        self._bus.refuse_waiting(service, error)
        deadline = asyncio.get_running_loop().time() + service.manifest.stop_timeout_seconds
        while service.load.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        worker.services.remove(service)
        await worker.stop()
        if not worker.services:
            self.workers.pop(worker.name, None)
        else:
            worker.reset()

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
        await self._bus.services[unit].worker.wait_ready()

    async def stop(self) -> None:
        """Stop all workers, those that others need last."""
        if self._watch is not None:
            self._watch.cancel()
        for name in reversed(self._order()):
            worker = self.workers[name]
            for service in worker.services:
                self._bus.refuse_waiting(service, Unavailable("the host is shutting down"))
            await worker.stop()

    def _order(self) -> list[str]:
        """Workers, each after those it needs."""
        units = start_order(self._needs())
        return list(dict.fromkeys(self._bus.services[unit].worker.name for unit in units))

    def _needs(self) -> dict[str, set[str]]:
        return {name: set(service.manifest.needs) for name, service in self._bus.services.items()}

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._interval_seconds)
            for worker in list(self.workers.values()):
                worker.ping(loop.time(), self._timeout_seconds)
