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

from smol.errors import DeadlineExceeded, SmolError
from smol.host.allowance import Allowance
from smol.host.boot import Boot, process_started
from smol.host.bus import Bus, BusLimits
from smol.host.claim import Claim
from smol.host.connection import Connection
from smol.host.control.lifecycle import Lifecycle
from smol.host.control.memory import Memory
from smol.host.control.observation import Records
from smol.host.control.packages import Packages
from smol.host.diary import Diary
from smol.host.environments import Environments
from smol.host.golang import GoBuilds
from smol.host.keeper import Keeper
from smol.host.launcher import Launcher
from smol.host.loads import Loads
from smol.host.logs import LogHandler, Logs
from smol.host.manifest import Manifest
from smol.host.notify import notify, watchdog_seconds
from smol.host.packages import Packages as PackageSets
from smol.host.plans import ResidentPlan, Workshop
from smol.host.registry import Registry
from smol.host.settings import HostSettings, MemorySettings, locations_of
from smol.host.supervisor import Supervisor
from smol.host.switches import Switches
from smol.host.worker import HostedWorker
from smol.host.zygote import Zygote, become_subreaper
from smol.locations import own_directory
from smol.policy.books import Settings as PolicySettings
from smol.policy.ledger import Kind
from smol.protocol import Role
from smol.sdk import Unit
from smol.sdk.context import Environment
from smol.transport import Channel, listen

__all__ = ["Host", "serve"]

_log = logging.getLogger("smol.host")
_HANDSHAKE_SECONDS = 10.0
_BUILD_ROOM_SECONDS = 60.0
_CROWDED_HANDSHAKE_SECONDS = 0.1


class Host:
    """One host. `start` it, `wait` for a signal or `request_stop`, then `stop` it."""

    def __init__(
        self,
        settings: HostSettings,
        memory: MemorySettings,
        unit_settings: Mapping[str, dict[str, Any]],
        allowance: Allowance,
        zygote: Zygote | None = None,
        reread: Callable[[], Mapping[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.boot = Boot(process_started())
        self.boot.mark("load")
        self.diary = Diary()
        self.settings = settings
        self._reread = reread
        self.allowance = allowance
        self.locations = locations_of(settings)
        policy = PolicySettings(quiet_seconds=memory.quiet_seconds, leak_seconds=memory.leak_seconds)
        self.keeper = Keeper(allowance, self.locations, policy)
        self.loads = Loads(self.keeper)
        limits = BusLimits(
            connections=settings.connections,
            calls=settings.calls_per_connection,
            default_deadline_seconds=settings.default_deadline_seconds,
            max_deadline_seconds=settings.max_deadline_seconds,
            cancel_grace_seconds=settings.cancel_grace_seconds,
        )
        self.logs = Logs(self.locations.state / "logs", settings.log_size_bytes)
        self._log_handler = LogHandler(self.logs.book("host"), asyncio.get_running_loop())
        self.switches = Switches(self.locations.state / "disabled.json")
        self.launcher = Launcher(self.logs, zygote)
        self.bus = Bus(limits, self.keeper, self.loads, self._end_stuck)
        self.bus.refusal = self.switches.refusal
        self.bus.topics.listeners += [self.boot.heard, self.diary.heard]
        self.supervisor = Supervisor(
            self.bus,
            self.keeper,
            memory,
            ping_interval_seconds=settings.ping_interval_seconds,
            ping_timeout_seconds=settings.ping_timeout_seconds,
        )
        self.workshop = Workshop(
            self.launcher,
            Environments(self.locations.data / "environments"),
            GoBuilds(self.locations.data / "go", self.locations.cache / "go-build", self._room_for_a_build),
            self.locations,
            settings,
            unit_settings,
            self.supervisor.wait_ready,
            self.bus.topics.announce,
        )
        self.keeper.attach(
            self.supervisor.workers,
            lambda: self.launcher.zygote_pid,
            lambda: self.bus.held_bytes,
            self.bus.topics.announce,
            self.bus.pump_all,
        )
        self.registry = Registry(self.bus, self.supervisor, self.workshop)
        self._residents: list[tuple[str, Unit, Environment]] = []
        self._server: asyncio.Server | None = None
        self._claim: Claim | None = None
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
        self._claim = Claim(self.locations.socket)
        self._server = await listen(self.locations.socket, self._accept)
        logging.getLogger("smol").addHandler(self._log_handler)
        if not private:
            self.boot.keep_at(self.locations.state / "last-stop.json")
        self.boot.mark("listen")
        lifecycle = Lifecycle(
            self.registry,
            self.supervisor,
            self.bus,
            self.launcher,
            str(self.locations.socket),
            self.allowance,
            Records(self.logs, self.boot, self.diary, self.switches),
        )
        self._admit_resident("lifecycle", lifecycle)
        self._admit_resident("memory", Memory(self.keeper, self.loads, self.supervisor))
        self._admit_resident("packages", Packages(PackageSets(self.locations.data / "packages")))
        self.registry.discover(self.settings.unit_directories)
        self.boot.mark("discover")
        if self.switches.problem:
            _log.warning("%s", self.switches.problem)
        self.keeper.start()
        self.supervisor.start(lambda unit: not private and self._left_unfinished(unit), services=not private)
        self._watchdog = asyncio.get_running_loop().create_task(self._feed_watchdog())
        self.boot.mark("start")
        self.boot.serving()
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
        self.boot.stopping()
        self.bus.draining = True
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self.locations.socket.unlink()
        deadline = asyncio.get_running_loop().time() + self.settings.drain_seconds
        while self.bus.busy and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        self.bus.closed = True
        self.boot.mark_stop("drain")
        await self.supervisor.stop()
        self.boot.mark_stop("workers")
        for task in (self._watchdog, self._reloading):
            if task is not None:
                task.cancel()
        channels = [client.channel for client in list(self.bus.clients) if client.channel is not None]
        for channel in channels:
            channel.close()
        if channels:
            await asyncio.wait([asyncio.ensure_future(channel.wait_closed()) for channel in channels], timeout=1.0)
        self.keeper.stop()
        self.launcher.close()
        self.boot.mark_stop("close")
        self.boot.stopped()
        _log.info("stopped")
        logging.getLogger("smol").removeHandler(self._log_handler)
        self.logs.close()
        if self._claim is not None:
            self._claim.release()

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
        self._residents.append((name, unit, environment))
        self.supervisor.admit(manifest, lambda worker: ResidentPlan(self._residents))

    def _room_for_a_build(self, size_bytes: int) -> contextlib.AbstractAsyncContextManager[None]:
        return self.keeper.room("build of a Go unit", Kind.PROBE, size_bytes, _BUILD_ROOM_SECONDS)

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
            self._read_settings()
            await self.registry.refresh(self.settings.unit_directories)
        notify("READY=1")
        _log.info("reloaded")

    def _read_settings(self) -> None:
        """Take the units' settings as they are now; wrong ones leave things as they were."""
        if self._reread is None:
            return
        try:
            self.workshop.unit_settings = self._reread()
        except SmolError as error:
            _log.error("the settings can't be read, and stay as they were: %s", error)

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
    memory: MemorySettings,
    unit_settings: Mapping[str, dict[str, Any]],
    allowance: Allowance,
    zygote: Zygote | None = None,
    ready: Callable[[Host], None] | None = None,
    *,
    private: bool = False,
    reread: Callable[[], Mapping[str, dict[str, Any]]] | None = None,
) -> None:
    """Run a host until SIGTERM or SIGINT.

    allowance: the memory there is, and what keeps it. zygote: forked before the event loop started; else one is
    executed. ready: called once it serves. private: see `Host.start`. reread: reads the units' settings again.
    """
    host = Host(settings, memory, unit_settings, allowance, zygote, reread)
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
