"""Room for the models that workers load inside calls, and for calls that wait outside until there is some.

The governor decides, the keeper carries out; here is who asked for what.
"""

from __future__ import annotations

import asyncio

from smol.errors import ResourceExhausted
from smol.host.keeper import Keeper
from smol.policy.decisions import Admit
from smol.policy.ledger import Kind
from smol.policy.workers import Ask, Model

__all__ = ["Loads"]


class Loads:
    """Loads of models, each under a ticket of the keeper's."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._governor = keeper.governor
        self._loop = asyncio.get_running_loop()
        self._wished: dict[str, tuple[str, Model]] = {}
        self._found: dict[tuple[str, str], str] = {}

    async def load(self, worker: str, model: Model, until: float, *, repeatable: bool) -> Admit:
        """Wait until a worker may load a model, which it asks for inside a call. `settle` must follow.

        Raises ResourceExhausted; with `repeat` in its details when that call should wait outside: see `find_room`.
        """
        ticket = self._keeper.ticket(model.key)
        held = self._found.pop((worker, model.key), "")
        try:
            return await self._keeper.ask(
                Ask(ticket, until, worker, model, inside=True, repeatable=repeatable), held
            )
        except ResourceExhausted as error:
            if "repeat" in error.details:
                self._wished[ticket] = worker, model
            raise

    async def find_room(self, wish: str, until: float) -> str:
        """Wait, for a call that was taken back, until there is room for what it wished to load.

        Returns the ticket that holds it, to `leave` when the call is over. Raises ResourceExhausted.
        """
        worker, model = self._wished.pop(wish)
        ticket = self._keeper.ticket(f"room for {model.key}")
        size = self._governor.size_for(worker, model)
        await self._keeper.ask(Ask(ticket, until, kind=Kind.MODEL, bytes=size, beside=worker))
        self._found[worker, model.key] = ticket
        return ticket

    def forget_wish(self, wish: str) -> None:
        """Nobody will look for room for it."""
        self._wished.pop(wish, None)

    def settle(self, ticket: str, *, loaded: bool) -> None:
        """A model that was admitted with this ticket is loaded, or could not be."""
        now = self._loop.time()
        self._keeper.carry_out(
            self._governor.loaded(ticket, now) if loaded else self._governor.failed(ticket, now)
        )
        self._keeper.leave(ticket)

    def unloaded(self, worker: str, model: str) -> None:
        """A worker let a model go."""
        self._keeper.carry_out(self._governor.unloaded(worker, model, self._loop.time()))
