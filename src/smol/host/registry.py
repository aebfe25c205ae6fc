"""The units that there are: found, added, removed and described while the host runs.

A unit's schemas are known only to its code, which the host never imports: a worker that starts says
them, or one that is started for nothing else. They are kept on disk until the unit's files change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from smol import __version__
from smol.errors import AlreadyExists, FailedPrecondition, NotFound, SmolError, Unavailable, nearest
from smol.host.bus import Bus
from smol.host.discovery import Broken, discover
from smol.host.fingerprint import fingerprint
from smol.host.manifest import Manifest
from smol.host.plans import ProcessPlan, Workshop
from smol.host.supervisor import Supervisor
from smol.host.worker import HostedWorker, describe_status
from smol.protocol import Buffer
from smol.protocol.messages import Error, Hello, Message, UnitDescription, to_error
from smol.sdk import Unit
from smol.sdk.schema import describe, operations_of
from smol.transport import Channel

__all__ = ["Registry"]

_log = logging.getLogger("smol.host")
_DESCRIBE_SECONDS = 30.0
_DYING_SECONDS = 0.5
"""How long a worker that closed its connection has to end by itself."""


class Registry:
    """Units by name. broken: those that were found and can't be used, by the place they were found at.

    residents: units that live in the host, by name.
    """

    def __init__(self, bus: Bus, supervisor: Supervisor, workshop: Workshop) -> None:
        self._bus = bus
        self._supervisor = supervisor
        self._workshop = workshop
        self._descriptions = workshop.locations.cache / "descriptions"
        self._described: dict[str, tuple[str, UnitDescription]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self.broken: dict[str, Broken] = {}
        self.residents: dict[str, Unit] = {}

    def discover(self, directories: Sequence[Path]) -> None:
        """Register every unit that can be found; what is wrong with the others is kept and logged."""
        self.broken.clear()
        for found in discover(directories):
            if isinstance(found, Manifest) and self._knows(found):
                continue
            broken = found if isinstance(found, Broken) else self._try_register(found)
            if broken is None:
                continue
            self.broken[broken.where] = broken
            _log.warning("unit %s can't be used: %s", broken.name, broken.error)

    async def add(self, directory: Path) -> Manifest:
        """Register the unit in a directory. Raises what is wrong with it, and then nothing has changed."""
        manifest = Manifest.from_directory(directory)
        self._refuse_taken(manifest)
        await self._describe(manifest)  # Which loads its code, or says why it can't be.
        self._register(manifest)
        self.broken.pop(str(manifest.path), None)
        self._bus.topics.announce("host.unit", {"unit": manifest.name, "change": "added"})
        return manifest

    async def remove(self, name: str) -> None:
        """Drain a unit and forget it. Raises NotFound."""
        manifest = self.manifest(name)
        if manifest.path is None:
            raise FailedPrecondition(f"unit {name!r} is part of the host and can't be removed")
        await self._supervisor.dismiss(name, Unavailable(f"unit {name!r} was removed"))
        self._described.pop(name, None)
        self._bus.topics.announce("host.unit", {"unit": name, "change": "removed"})

    async def reload(self, name: str) -> Manifest:
        """Read a unit's manifest again and run its present code. Raises what is wrong with the new one."""
        manifest = self.manifest(name)
        if manifest.path is None:
            raise FailedPrecondition(f"unit {name!r} is part of the host and can't be reloaded")
        fresh = Manifest.from_directory(manifest.path)
        if fresh.name != name:
            raise AlreadyExists(
                f"{manifest.path} now names its unit {fresh.name!r}: remove {name!r} and add it anew"
            )
        if fresh.worker == manifest.worker:
            await self._supervisor.replace(fresh)
        else:
            error = Unavailable(f"unit {name!r} is being reloaded", retry_after_ms=500)
            await self._supervisor.dismiss(name, error)
            self._register(fresh)
        self._bus.topics.announce("host.unit", {"unit": name, "change": "reloaded"})
        return fresh

    def manifest(self, name: str) -> Manifest:
        """Raises NotFound."""
        service = self._bus.services.get(name)
        if service is None:
            known = sorted(self._bus.services)
            raise NotFound(f"no unit {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        return service.manifest

    async def describe(self, name: str) -> UnitDescription:
        """What a unit offers, without starting it if its files have been seen before."""
        manifest = self.manifest(name)
        if manifest.path is None:
            return self._resident(name)
        return await self._describe(manifest)

    async def _describe(self, manifest: Manifest) -> UnitDescription:
        name = manifest.name
        async with self._turns.setdefault(name, asyncio.Lock()):
            seen = await asyncio.to_thread(fingerprint, manifest)
            known = self._described.get(name)
            if known is not None and known[0] == seen:
                return known[1]
            file = self._descriptions / f"{name}-{seen}.json"
            description = _read(file)
            if description is None:
                description = await self._ask(manifest)
                _write(file, description)
            self._described[name] = seen, description
            return description

    def _resident(self, name: str) -> UnitDescription:
        """Units that live in the host describe themselves; they are loaded anyway."""
        unit = self.residents[name]
        return describe(unit, name, __version__, operations_of(unit, name).values(), schemas=True)

    def _try_register(self, manifest: Manifest) -> Broken | None:
        try:
            self._register(manifest)
        except SmolError as error:
            return Broken(str(manifest.path), manifest.name, error)
        return None

    async def refresh(self, directories: Sequence[Path]) -> None:
        """Read everything again: units that are gone are removed, changed ones reloaded, new ones added."""
        for name, service in list(self._bus.services.items()):
            if service.manifest.path is None:
                continue
            try:
                if await self._changed(service.manifest):
                    await self.reload(name)
            except NotFound:
                with contextlib.suppress(NotFound):  # Somebody else was faster.
                    await self.remove(name)
            except SmolError as error:
                _log.warning("unit %s can't be reloaded, and stays as it was: %s", name, error)
        self.discover(directories)

    async def _changed(self, manifest: Manifest) -> bool:
        """Whether a unit is not what is on the disk: in its manifest, or in what its worker runs."""
        if Manifest.from_directory(manifest.path or Path()) != manifest:
            return True
        running = self._workshop.running.get(manifest.name)
        stopped = not self._bus.services[manifest.name].worker.pid  # Its next start reads what there is.
        return not stopped and running != await asyncio.to_thread(self._workshop.fingerprint, manifest)

    def _knows(self, manifest: Manifest) -> bool:
        known = self._bus.services.get(manifest.name)
        return known is not None and known.manifest.path == manifest.path

    def _register(self, manifest: Manifest) -> None:
        self._refuse_taken(manifest)
        self._supervisor.admit(manifest, self._plan)

    def _refuse_taken(self, manifest: Manifest) -> None:
        """Raises AlreadyExists when the name is taken."""
        taken = self._bus.services.get(manifest.name)
        if taken is not None:
            where = taken.manifest.path or "the host itself"
            raise AlreadyExists(
                f"a unit named {manifest.name!r} is there already, from {where}: rename one of them"
            )

    def _plan(self, worker: HostedWorker) -> ProcessPlan:
        return ProcessPlan(self._workshop, worker.name, lambda: [service.manifest for service in worker.services])

    async def _ask(self, manifest: Manifest) -> UnitDescription:
        """Start the unit's code for its description alone."""
        argv = await self._workshop.program_for(manifest.name, [manifest])
        listener = _Listener()
        name = f"describe-{manifest.name}"
        async with self._bus.keeper.cage_for(name, manifest.reserved_bytes, _DESCRIBE_SECONDS) as cage:
            process, channel = await self._workshop.launch(
                manifest.name, [manifest], listener, argv, cage, describe_only=True
            )
            try:
                async with asyncio.timeout(_DESCRIBE_SECONDS):
                    description = await listener.description
            except TimeoutError:
                raise Unavailable(
                    f"unit {manifest.name!r} did not say what it offers in {_DESCRIBE_SECONDS:.0f} s"
                ) from None
            except _EndedError:
                how = describe_status(await process.end(_DYING_SECONDS))
                raise Unavailable(f"unit {manifest.name!r} ended before it said what it offers ({how})") from None
            finally:
                channel.abort()
                process.assume_ended()
                await process.end(0.0)
        if description.name != manifest.name:
            raise FailedPrecondition(f"it serves ['{description.name}'], its manifest says ['{manifest.name}']")
        return description


class _EndedError(Unavailable):
    """A worker that was started for its description ended without it."""


class _Listener:
    """Waits for the `hello` of a worker that is started for its description alone."""

    def __init__(self) -> None:
        self.description: asyncio.Future[UnitDescription] = asyncio.get_running_loop().create_future()

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if self.description.done():
            return
        if isinstance(message, Hello) and len(message.units) == 1:
            self.description.set_result(message.units[0])
        elif isinstance(message, Error):
            self.description.set_exception(to_error(message))

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        if not self.description.done():
            self.description.set_exception(error or _EndedError("it ended before it said what it offers"))


def _read(file: Path) -> UnitDescription | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=UnitDescription)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(file: Path, description: UnitDescription) -> None:
    """Keep a description; a cache that can't be written costs time, nothing else."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob(f"{description.name}-*.json"):
            old.unlink(missing_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(description))
        fresh.replace(file)
    except OSError as error:
        _log.warning("the description of %s can't be kept: %s", description.name, error)
