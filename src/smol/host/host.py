"""The host: puts bus, registry, supervisor and launcher together, listens, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from smol.errors import DeadlineExceeded
from smol.host.bus import Bus, BusLimits
from smol.host.connection import Connection
from smol.host.control.lifecycle import Lifecycle
from smol.host.environments import Environments
from smol.host.launcher import Launcher
from smol.host.manifest import Manifest
from smol.host.notify import notify, watchdog_seconds
from smol.host.plans import ResidentPlan, Workshop
from smol.host.registry import Registry
from smol.host.settings import HostSettings, locations_of
from smol.host.supervisor import Supervisor
from smol.host.worker import HostedWorker
from smol.host.zygote import Zygote, become_subreaper
from smol.locations import own_directory
from smol.protocol import Role
from smol.sdk import Unit
from smol.sdk.context import Environment
from smol.transport import Channel, listen

__all__ = ["Host", "serve"]

_log = logging.getLogger("smol.host")
_HANDSHAKE_SECONDS = 10.0
_CROWDED_HANDSHAKE_SECONDS = 0.1


class Host:
    """One host. `start` it, `wait` for a signal or `request_stop`, then `stop` it."""

    def __init__(
        self, settings: HostSettings, unit_settings: Mapping[str, dict[str, Any]], zygote: Zygote | None = None
    ) -> None:
        self.settings = settings
        self.locations = locations_of(settings)
        limits = BusLimits(
            connections=settings.connections,
            calls=settings.calls_per_connection,
            default_deadline_seconds=settings.default_deadline_seconds,
            max_deadline_seconds=settings.max_deadline_seconds,
            cancel_grace_seconds=settings.cancel_grace_seconds,
        )
        self.launcher = Launcher(zygote)
        self.bus = Bus(limits, self._end_stuck)
        self.supervisor = Supervisor(
            self.bus,
            ping_interval_seconds=settings.ping_interval_seconds,
            ping_timeout_seconds=settings.ping_timeout_seconds,
        )
        self.workshop = Workshop(
            self.launcher,
            Environments(self.locations.data / "environments"),
            self.locations,
            settings,
            unit_settings,
            self.supervisor.wait_ready,
            self.bus.topics.announce,
        )
        self.registry = Registry(self.bus, self.supervisor, self.workshop)
        self._server: asyncio.Server | None = None
        self._stopping = asyncio.Event()
        self._watchdog: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    async def start(self, *, private: bool = False) -> None:
        """Listen, and start what is to run always or has unfinished work. Raises SmolError when that can't be.

        private: too short-lived to go on with unfinished work, and to listen for others.
        """
        become_subreaper()
        own_directory(self.locations.socket.parent)
        self._server = await listen(self.locations.socket, self._accept)
        lifecycle = Lifecycle(
            self.registry,
            self.supervisor,
            self.bus,
            self.launcher,
            str(self.locations.socket),
            self.settings.budget_bytes,
        )
        self._admit_resident("lifecycle", lifecycle)
        self.registry.discover(self.settings.unit_directories)
        self.supervisor.start(lambda unit: not private and self._left_unfinished(unit), services=not private)
        self._watchdog = asyncio.get_running_loop().create_task(self._feed_watchdog())
        notify(f"READY=1\nSTATUS=serving {len(self.bus.services)} units")
        _log.info("serving %d units at %s", len(self.bus.services), self.locations.socket)

    async def wait(self) -> None:
        """Wait until somebody asks the host to stop."""
        await self._stopping.wait()

    def request_stop(self) -> None:
        """Ask the host to stop; a second time, at once."""
        if self._stopping.is_set():
            _log.warning("stopping at once")
            os._exit(1)
        self._stopping.set()

    def request_reload(self) -> None:
        """Read all units again: new directories, changed manifests, changed code."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload())
            return
        self._reload_again = True  # What has changed since may have been read already.

    async def stop(self) -> None:
        """Refuse new calls, let running ones finish for a while, end all workers, remove the socket."""
        notify("STOPPING=1")
        _log.info("stopping")
        self.bus.draining = True
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self.locations.socket.unlink()
        deadline = asyncio.get_running_loop().time() + self.settings.drain_seconds
        while self.bus.busy and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        self.bus.closed = True
        await self.supervisor.stop()
        for task in (self._watchdog, self._reloading):
            if task is not None:
                task.cancel()
        channels = [client.channel for client in list(self.bus.clients) if client.channel is not None]
        for channel in channels:
            channel.close()
        if channels:
            await asyncio.wait([asyncio.ensure_future(channel.wait_closed()) for channel in channels], timeout=1.0)
        self.launcher.close()
        _log.info("stopped")

    def _accept(self) -> Channel:
        connection = Connection(self.bus)
        channel = Channel(Role.HOST, connection)
        connection.channel = channel
        self.bus.clients.add(connection)
        crowded = len(self.bus.clients) > 2 * self.settings.connections
        patience = _CROWDED_HANDSHAKE_SECONDS if crowded else _HANDSHAKE_SECONDS
        asyncio.get_running_loop().call_later(patience, _expect_hello, connection)
        return channel

    def _admit_resident(self, name: str, unit: Unit) -> None:
        manifest = Manifest(
            name=name,
            kind="control",
            description=(unit.__doc__ or "").partition("\n")[0],
            class_path=f"{type(unit).__module__}:{type(unit).__qualname__}",
            worker="host_control",
            restart="always",
            concurrency=64,
        )
        environment = Environment(
            unit=name,
            log=logging.getLogger(f"smol.units.{name}"),
            data_dir=self.locations.data / "units" / name,
            cache_dir=self.locations.cache,
        )
        self.registry.residents[name] = unit
        self.supervisor.admit(manifest, lambda worker: ResidentPlan([(name, unit, environment)]))

    def _left_unfinished(self, unit: str) -> bool:
        """Whether a unit left the file `resume` in its data directory, to be started with the host."""
        return (self.locations.data / "units" / unit / "resume").exists()

    def _end_stuck(self, worker: HostedWorker, operation: str) -> None:
        if worker.resident:
            _log.error("%s does not end though nobody waits for it", operation)
        else:
            worker.kill(f"{operation} went on for {self.settings.cancel_grace_seconds:g} s after it was cancelled")

    async def _reload(self) -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._reload_again = True
        while self._reload_again:
            self._reload_again = False
            await self.registry.refresh(self.settings.unit_directories)
        notify("READY=1")
        _log.info("reloaded")

    async def _feed_watchdog(self) -> None:
        seconds = watchdog_seconds()
        while seconds is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(seconds)


def _expect_hello(connection: Connection) -> None:
    """Hang up on a client that has not said who it is."""
    channel = connection.channel
    if not connection.greeted and channel is not None and not channel.closed:
        channel.refuse(DeadlineExceeded("the connection was opened, and no hello came in time"))


async def serve(
    settings: HostSettings,
    unit_settings: Mapping[str, dict[str, Any]],
    zygote: Zygote | None = None,
    ready: Callable[[Host], None] | None = None,
    *,
    private: bool = False,
) -> None:
    """Run a host until SIGTERM or SIGINT.

    zygote: forked before the event loop started; else one is executed. ready: called once it serves.
    private: see `Host.start`.
    """
    host = Host(settings, unit_settings, zygote)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.request_stop)
    loop.add_signal_handler(signal.SIGHUP, host.request_reload)
    try:
        await host.start(private=private)
        host.launcher.adopts = True  # This process is the host's alone.
        if ready is not None:
            ready(host)
        await host.wait()
    finally:
        await host.stop()
