"""Stateful interpreters: each a sandbox of its own, with its own reservation, closed when it rests too long."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from smol.errors import FailedPrecondition, NotFound, ResourceExhausted
from smol.sandbox.box import Box
from smol.sandbox.proxy import Contact
from smol.sandbox.records import Job, Kind, Limits, Outcome
from smol.sdk import Context
from smol.units.code.lease import lease
from smol.units.code.network import proxied
from smol.units.code.pool import Pool
from smol.units.code.records import Session
from smol.units.code.settings import Settings

__all__ = ["Sessions", "Wanted"]

_SWEEP_SECONDS = 5.0


class Wanted(msgspec.Struct, frozen=True):
    """What a session is to be. kind: of its sandbox; None for the one that is kept warm."""

    limits: Limits
    kind: Kind | None = None
    environment: str = ""


class _Open:
    """A session. Its lease is held by a task of its own, for it outlives the call that asked for it."""

    def __init__(self, name: str, box: Box, wanted: Wanted, now: float) -> None:
        self.name = name
        self.box = box
        self.wanted = wanted
        self.used_at = now
        self.runs = 0
        self.busy = asyncio.Lock()
        self.over = asyncio.Event()
        self.holder: asyncio.Task[None] | None = None


class Sessions:
    """All that are open. settings: how many, how long, and what those with a network may reach."""

    def __init__(self, pool: Pool, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._most = settings.sessions
        self._idle_seconds = settings.session_idle_seconds
        self._reach = settings.network
        self._clock = clock
        self._open: dict[str, _Open] = {}

    async def create(self, life: Context, wanted: Wanted) -> Session:
        """Open one. life: a context that lasts as long as the unit. Raises ResourceExhausted."""
        if len(self._open) >= self._most:
            raise ResourceExhausted(
                f"{self._most} sessions are open; close one, or raise [units.code] sessions",
                retry_after_ms=1000,
            )
        name = secrets.token_hex(8)
        holding: asyncio.Future[Box] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()
        holder = asyncio.create_task(self._hold(life, wanted, holding, over))
        try:
            box = await asyncio.shield(holding)
        except BaseException:
            over.set()
            holder.cancel()
            raise
        entry = _Open(name, box, wanted, self._clock())
        entry.over, entry.holder = over, holder
        self._open[name] = entry
        return self._shown(entry)

    async def _hold(
        self, life: Context, wanted: Wanted, holding: asyncio.Future[Box], over: asyncio.Event
    ) -> None:
        """Reserve the memory, make the sandbox, and keep both until the session is over."""
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(lease(life, wanted.limits.memory_bytes, "a session of code"))
                box = await stack.enter_async_context(await self._pool.take(wanted.kind))
                holding.set_result(box)
                await over.wait()
        except Exception as error:
            if holding.done():
                raise
            holding.set_exception(error)

    async def run(self, context: Context, name: str, job: Job, limits: Limits) -> tuple[Outcome, list[Contact]]:
        """Run in a session. One that met a limit is over. Raises NotFound, FailedPrecondition."""
        entry = self._find(name)
        if entry.busy.locked():
            raise FailedPrecondition(f"session {name!r} is busy with another run; one at a time")
        async with entry.busy:
            try:
                # Between runs nobody serves its connections: they wait.
                async with proxied(context, entry.box, self._reach) as contacts:
                    outcome = await entry.box.run(job, limits)
            finally:
                entry.used_at = self._clock()
                entry.runs += 1
                if not entry.box.ready:
                    self._end(entry)
        if not outcome.alive:
            self._end(entry)
        return outcome, contacts

    def limits(self, name: str) -> Limits:
        return self._find(name).wanted.limits

    async def reset(self, life: Context, name: str) -> Session:
        """A fresh interpreter under the same name, with the same limits and packages."""
        entry = self._find(name)
        await self.close(name)
        session = await self.create(life, entry.wanted)
        fresh = self._open.pop(session.session)
        fresh.name = name
        self._open[name] = fresh
        return self._shown(fresh)

    async def close(self, name: str) -> None:
        entry = self._find(name)
        self._end(entry)
        if entry.holder is not None:
            await asyncio.wait([entry.holder])

    def list(self) -> list[Session]:
        return [self._shown(entry) for entry in self._open.values()]

    async def sweep_forever(self) -> None:
        """Close what rests too long."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._idle_seconds))
            self.sweep()

    def sweep(self) -> int:
        """Close what has rested too long; how many."""
        now = self._clock()
        idle = [
            entry
            for entry in self._open.values()
            if not entry.busy.locked() and (now - entry.used_at > self._idle_seconds or not entry.box.ready)
        ]
        for entry in idle:
            self._end(entry)
        return len(idle)

    async def close_all(self) -> None:
        holders = [entry.holder for entry in self._open.values() if entry.holder is not None]
        for entry in tuple(self._open.values()):
            self._end(entry)
        if holders:
            await asyncio.wait(holders)

    def _end(self, entry: _Open) -> None:
        self._open.pop(entry.name, None)
        entry.over.set()

    def _find(self, name: str) -> _Open:
        if name not in self._open:
            raise NotFound(f"no session {name!r}: it was closed, rested too long, or met a limit; create another")
        return self._open[name]

    def _shown(self, entry: _Open) -> Session:
        return Session(
            session=entry.name,
            memory_bytes=entry.wanted.limits.memory_bytes,
            environment=entry.wanted.environment,
            network=entry.box.kind.network,
            runs=entry.runs,
            idle_seconds=round(max(0.0, self._clock() - entry.used_at), 3),
        )
