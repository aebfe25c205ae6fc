"""A provider's model asks for calls, they are made, and it goes on, within bounds.

A model that calls a function of the caller's is interrupted: the caller gets those calls, and ours of the same
moment are not made, for the model asks again. Knows neither the wire nor how a provider is reached.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from smol.types import Json
from smol.units.gateway.offers import Offer, is_covered
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import AgentSettings
from smol.units.openai.agent.calling import Calls, Operate
from smol.units.openai.agent.dialect import Dialect, is_ours

__all__ = ["Agent"]


class Agent:
    """One request, until its model is done. offered: our operations by their names as tools."""

    def __init__(
        self, dialect: Dialect, offered: Mapping[str, Offer], operate: Operate, settings: AgentSettings
    ) -> None:
        patterns = _patterns(dialect.body.get("tools") or ())
        ours = {
            name: offer
            for name, offer in offered.items()
            if name not in dialect.taken and is_covered(offer.operation, patterns)
        }
        dialect.offer(ours)
        self.dialect = dialect
        self._calls = Calls(ours, operate, settings, dialect.pictures())
        self._most_rounds = settings.rounds
        self._ended = False

    async def complete(self, ask: Callable[[bytes], Awaitable[bytes]]) -> dict[str, Json]:
        """The answer of the model; its usage is that of all rounds. ask: a provider, with a whole answer."""
        while True:
            self.dialect.hear(_decoded(await ask(msgspec.json.encode(self.dialect.body))))
            if not await self._acts():
                return self.dialect.answer(self._calls.used)

    async def stream(
        self, ask: Callable[[bytes], AsyncGenerator[dict[str, Json]]]
    ) -> AsyncGenerator[dict[str, Json]]:
        """Events of all rounds as those of one answer, texts as they come. ask: a provider, event by event."""
        while True:
            async for event in ask(msgspec.json.encode(self.dialect.body)):
                for shown in self.dialect.pass_on(event):
                    yield shown
            if not await self._acts():
                break
        for event in self.dialect.ending(self._calls.used):
            yield event

    async def _acts(self) -> bool:
        """Make the calls that the round asks for. False: it asks for none of ours, or there were enough rounds."""
        calls = self.dialect.calls()
        if not calls or self._ended:
            return False
        results = [await self._calls.make(call) for call in calls]
        self._ended = self.dialect.rounds + 1 >= self._most_rounds or self._calls.left_seconds() <= 0
        self.dialect.tell(results, last=self._ended)
        return True


def _patterns(tools: Sequence[Any]) -> list[str]:
    """Which operations a request asks for. Raises Refusal 400."""
    found: list[str] = []
    for index, tool in enumerate(tools):
        if is_ours(tool):
            named = tool.get("operations", ["*"])
            if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
                where = f"tools[{index}].operations"
                raise Refusal(400, f'{where} must be a list of patterns, as ["math.*"]', param=where)
            found += named
    return found or ["*"]


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal(502, "the provider's answer is not JSON", code="UNAVAILABLE")
    return found
