"""How workers are started: forked from the zygote, executed, or living in the host itself."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smol.errors import FailedPrecondition
from smol.host.cages import Cage
from smol.host.connection import Connection
from smol.host.environments import Environments
from smol.host.fingerprint import fingerprint
from smol.host.golang import GoBuilds
from smol.host.launcher import Launcher, Process
from smol.host.manifest import Manifest
from smol.host.settings import HostSettings
from smol.locations import Locations
from smol.protocol import Role
from smol.sdk import Unit
from smol.sdk.context import Environment
from smol.sdk.serve import Worker
from smol.sdk.worker import UnitSpec, WorkerSpec
from smol.transport import Channel, Handler, connect_in_memory, from_socket

__all__ = ["ProcessPlan", "ResidentPlan", "Workshop"]

_log = logging.getLogger("smol.host")


class Workshop:
    """What every process plan needs: the launcher, the environments, and the places of files.

    wait_ready: waits until a unit's worker takes calls. settings: the units' own tables of smol.toml.
    announce: publishes an event. running: fingerprints of the units as they were when they last started.
    """

    def __init__(
        self,
        launcher: Launcher,
        environments: Environments,
        go_builds: GoBuilds,
        locations: Locations,
        settings: HostSettings,
        unit_settings: Mapping[str, dict[str, Any]],
        wait_ready: Callable[[str], Awaitable[None]],
        announce: Callable[[str, Any], None],
    ) -> None:
        self.launcher = launcher
        self.environments = environments
        self.go_builds = go_builds
        self.locations = locations
        self.settings = settings
        self.unit_settings = unit_settings
        self.wait_ready = wait_ready
        self.announce = announce
        self.running: dict[str, str] = {}

    def fingerprint(self, manifest: Manifest) -> str:
        """Changes when a unit's files or settings do. Reads the disk."""
        return fingerprint(manifest, repr(self.unit_settings.get(manifest.name, {})))

    def spec(self, name: str, manifests: Sequence[Manifest], *, describe_only: bool = False) -> WorkerSpec:
        """What the worker is told when it starts."""
        return WorkerSpec(
            name=name,
            units=[self._unit_spec(manifest) for manifest in manifests],
            threads=sum(manifest.concurrency for manifest in manifests),
            describe_only=describe_only,
            log_format=self.settings.log_format,
            log_level=self.settings.log_level,
        )

    def _unit_spec(self, manifest: Manifest) -> UnitSpec:
        return UnitSpec(
            name=manifest.name,
            version=manifest.version,
            class_path=manifest.class_path or "",
            search=_search(manifest),
            data_dir=str(self.locations.data / "units" / manifest.name),
            cache_dir=str(self.locations.cache),
            settings=self.unit_settings.get(manifest.name, {}),
        )

    async def program_for(self, name: str, manifests: Sequence[Manifest]) -> Sequence[str]:
        """What to execute for a worker, with its arguments; nothing when it is to be forked.

        Makes the environment that its units require, or builds it from its sources. Raises FailedPrecondition
        when it can't run here.
        """

        def report(message: str) -> None:
            _log.info("environment of %s: %s", name, message)
            self.announce("host.environment", {"worker": name, "message": message})

        first = manifests[0]
        if first.go is not None:
            return [str(await self.go_builds.ensure(first.path or Path(), first.go, report))]
        if first.command:
            if shutil.which(first.argv[0]) is None:
                raise FailedPrecondition(f"no executable {first.argv[0]!r}: build or install it")
            return first.argv
        requirements = [requirement for manifest in manifests for requirement in manifest.requirements]
        python = await self.environments.ensure(requirements, report) if requirements else Path(sys.executable)
        return [] if python == Path(sys.executable) else [str(python), "-m", "smol.sdk.worker"]

    async def launch(
        self,
        name: str,
        manifests: Sequence[Manifest],
        handler: Handler,
        argv: Sequence[str],
        cage: Cage,
        *,
        describe_only: bool = False,
    ) -> tuple[Process, Channel]:
        """Start a process that serves `manifests`, by `program_for`; `handler` is told what it says."""
        spec = self.spec(name, manifests, describe_only=describe_only)
        directory = str(manifests[0].path or "") if manifests[0].executable else ""
        process, ours = await self.launcher.launch(spec, cage, argv, directory, manifests[0].worker)
        try:
            return process, await from_socket(ours, Role.HOST, handler)
        except BaseException:
            ours.close()
            process.kill()
            raise


class ProcessPlan:
    """A worker in a process of its own, for units that are read anew from `manifests` at each start."""

    resident = False

    def __init__(self, workshop: Workshop, name: str, manifests: Callable[[], Sequence[Manifest]]) -> None:
        self._workshop = workshop
        self._name = name
        self._manifests = manifests
        self._argv: Sequence[str] = ()

    async def prepare(self) -> None:
        """Start what the units need; make what they run in. Raises FailedPrecondition."""
        manifests = self._manifests()
        for manifest in manifests:
            self._workshop.running[manifest.name] = await asyncio.to_thread(self._workshop.fingerprint, manifest)
        here = {manifest.name for manifest in manifests}
        for need in dict.fromkeys(need for manifest in manifests for need in manifest.needs if need not in here):
            await self._workshop.wait_ready(need)
        self._argv = await self._workshop.program_for(self._name, manifests)

    async def begin(self, connection: Connection, cage: Cage) -> Process | None:
        manifests = self._manifests()
        process, connection.channel = await self._workshop.launch(
            self._name, manifests, connection, self._argv, cage
        )
        return process


class ResidentPlan:
    """Units that live in the host: the levers of the host itself. They speak the wire all the same."""

    resident = True

    def __init__(self, units: Sequence[tuple[str, Unit, Environment]]) -> None:
        self._units = units
        self._task: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Nothing to get ready."""

    async def begin(self, connection: Connection, cage: Cage) -> Process | None:
        worker = Worker([(name, "0", unit, environment) for name, unit, environment in self._units], threads=1)
        connection.channel, peer = connect_in_memory(connection, worker)
        self._task = asyncio.get_running_loop().create_task(worker.run(peer))
        return None


def _search(manifest: Manifest) -> str:
    """The directory to import a unit from that is not installed."""
    if manifest.path is None or manifest.class_path is None:
        return ""
    parts = manifest.class_path.partition(":")[0].split(".")
    beside = manifest.path / f"{parts[0]}.py"
    package = manifest.path / parts[0] / "__init__.py"
    return str(manifest.path) if beside.exists() or package.exists() else ""
