"""Sandboxes for runs: a few kept warm, as many at once as the settings allow, the others waiting in line."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smol.errors import FailedPrecondition, ResourceExhausted, SmolError, Unavailable
from smol.sandbox.box import Box
from smol.sandbox.ground import Ground, explore
from smol.sandbox.keeper import Keeper
from smol.sandbox.kinds import python_kind
from smol.sandbox.records import TIERS, Isolation, Kind, Limits
from smol.units.code.settings import Settings

__all__ = ["Pool"]

_RETRY_MS = 200
_REPLY_SECONDS = 0.004
"""How long clearing up and warming up wait, so that an answer is on its way first."""


class Pool:
    """Gives sandboxes out. One that has run something never comes back."""

    def __init__(self, settings: Settings, ground: Ground, without: frozenset[str] = frozenset()) -> None:
        self._settings = settings
        self._ground = ground
        self._without = without
        self._warm: deque[Box] = deque()
        self._places = asyncio.Semaphore(settings.concurrency)
        self._waiting = 0
        self._running = 0
        self._refill: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()

    @property
    def isolation(self) -> Isolation:
        return self._ground.isolation

    def figures(self) -> dict[str, int]:
        """Sandboxes that are warm, runs that are on, runs that wait."""
        return {"warm": len(self._warm), "running": self._running, "waiting": self._waiting}

    def check_tier(self) -> None:
        """Raises FailedPrecondition where this machine holds less than the settings ask for."""
        isolation, minimum = self.isolation, self._settings.minimum_tier
        if TIERS.index(isolation.tier) >= TIERS.index(minimum):
            return
        lacks = "; ".join(f"{layer}: {reason}" for layer, reason in isolation.missing.items())
        advice = f"; this would help: {isolation.fix}" if isolation.fix else ""
        lower = (
            f"; or accept the risk with minimum_tier = {isolation.tier!r} in [units.code]"
            if isolation.tier != "none"
            else ""
        )
        raise FailedPrecondition(
            f"code is not run here: this machine holds it by tier {isolation.tier!r}, and {minimum!r} is "
            f"the minimum (missing: {lacks}){advice}{lower}",
            tier=isolation.tier,
            minimum=minimum,
            missing=dict(isolation.missing),
            fix=isolation.fix,
        )

    async def keeper(self) -> Keeper:
        """The nursery; a new one when the old has died."""
        async with self._renewing:
            if self._ground.keeper is not None and self._ground.keeper.dead:
                for box in self._warm:
                    self.discard(box)
                self._warm.clear()
                await self._ground.close()
                self._ground = await explore(self._without)
            self.check_tier()
            if self._ground.keeper is None:
                raise FailedPrecondition("this machine has nothing to hold code with")
            return self._ground.keeper

    def default_limits(self) -> Limits:
        settings = self._settings
        return Limits(
            disk_bytes=settings.disk,
            files=settings.files,
            processes=settings.processes,
            output_bytes=settings.output,
        )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the runs at once. Raises ResourceExhausted when too many wait already."""
        if self._places.locked():
            if self._waiting >= self._settings.queue:
                raise ResourceExhausted(
                    f"{self._settings.concurrency} runs are on and {self._waiting} wait; try again shortly",
                    retry_after_ms=_RETRY_MS,
                )
            self._waiting += 1
            try:
                await self._places.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._places.acquire()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._places.release()

    async def take(self, kind: Kind | None = None) -> Box:
        """A fresh sandbox: a warm one when `kind` is None and one is there. Close it after use."""
        keeper = await self.keeper()
        while kind is None and self._warm:
            box = self._warm.popleft()
            if box.ready:
                return box
            self.discard(box)
        return await self._make(keeper, kind or python_kind(keeper))

    async def _make(self, keeper: Keeper, kind: Kind) -> Box:
        for attempt in (1, 2):
            try:
                return await Box.made(
                    keeper, kind, self.isolation.layers, self.default_limits(), self._ground.parent
                )
            except Unavailable:
                if attempt == 2:
                    raise
                keeper = await self.keeper()
        raise Unavailable("no sandbox could be made")

    def discard(self, box: Box) -> None:
        """Close a sandbox while the caller goes on, and only then warm up another: not beside the run."""
        task = asyncio.get_running_loop().create_task(self._clear(box))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _clear(self, box: Box) -> None:
        await asyncio.sleep(_REPLY_SECONDS)
        self._wanted.set()
        await box.close()

    def begin(self) -> None:
        """Start to keep sandboxes warm."""
        if self._settings.warm and TIERS.index(self.isolation.tier) >= TIERS.index(self._settings.minimum_tier):
            self._wanted.set()
            self._refill = asyncio.get_running_loop().create_task(self._keep_warm())

    async def _keep_warm(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._warm) < self._settings.warm:
                try:
                    keeper = await self.keeper()
                    self._warm.append(await self._make(keeper, python_kind(keeper)))
                except SmolError:
                    await asyncio.sleep(1.0)
                    break

    async def close(self) -> None:
        """Leave nothing."""
        if self._refill is not None:
            self._refill.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refill
        for box in self._warm:
            self.discard(box)
        self._warm.clear()
        if self._closing:
            await asyncio.wait(list(self._closing))
        await self._ground.close()
