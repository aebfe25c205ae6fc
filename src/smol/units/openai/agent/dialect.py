"""What the loop needs of a wire: how tools are offered, calls found, results told, and rounds made one answer.

A dialect is one request's conversation with a provider. It knows neither the operations nor the bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from smol.errors import Unavailable
from smol.types import Json
from smol.units.gateway.arguments import holds_attachment
from smol.units.gateway.offers import Offer
from smol.units.gateway.problems import Refusal

__all__ = ["KIND", "Call", "Dialect", "Result", "asks_for_tools", "broken_off", "describe", "is_ours"]

KIND = "smol"
"""The type of the tool that stands for our operations: `{"type": "smol", "operations": ["math.*"]}`."""
_PICTURES_HINT = "Pictures of this conversation are given as image:1, image:2 and so on."


class Call(msgspec.Struct, frozen=True):
    """A call that a model asks for. arguments: an object, or its JSON."""

    id: str
    name: str
    arguments: Any


class Result(msgspec.Struct, frozen=True):
    """What a model is told of a call. id: of the call."""

    id: str
    text: str
    failed: bool


class Dialect(ABC):
    """One request on one wire, round by round.

    A round is `hear`, or `pass_on` for each event; then `calls`. If they are made, `tell` begins the next round;
    else `answer`, or `ending`, is what the caller gets. request: as the caller sent it.
    """

    place: ClassVar[str]
    """The path at a provider."""
    named: ClassVar[bool] = True
    """Whether events have names."""
    done: ClassVar[bytes] = b"data: [DONE]\n\n"
    """What ends a stream of events."""

    def __init__(self, request: dict[str, Any]) -> None:
        given = request.get("tools") or []
        if not isinstance(given, list):
            raise Refusal(400, "tools must be a list", param="tools")
        self.body = dict(request)
        self.theirs = [tool for tool in given if not is_ours(tool)]
        self.taken = {self._name(tool) for tool in self.theirs} - {""}
        self.usage: dict[str, Json] = {}
        self.rounds = 0

    def offer(self, offers: Mapping[str, Offer]) -> None:
        """Add operations to the caller's tools."""
        self.body["tools"] = [*self.theirs, *(self._tool(name, offer) for name, offer in offers.items())]
        if not self.body["tools"]:
            del self.body["tools"]

    def tell(self, results: Sequence[Result], last: bool) -> None:
        """Go on with what the calls gave. last: the model is to answer now, without calls."""
        self._append(results)
        # A call that the caller demanded has been made; and in the end the model is to say what it found.
        self.body["tool_choice"] = self._choice("none" if last else "auto")
        self.rounds += 1

    def count(self, usage: Json) -> None:
        """Add what a round has used."""
        if isinstance(usage, dict):
            self.usage = _sum(self.usage, usage)

    @abstractmethod
    def pictures(self) -> list[str]:
        """The data: URIs of the conversation's pictures, in order; an empty text for one that is not in it."""

    @abstractmethod
    def hear(self, reply: dict[str, Any]) -> None:
        """Take a round's answer."""

    @abstractmethod
    def pass_on(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Take an event of a round; return what the caller sees of it."""

    @abstractmethod
    def calls(self) -> list[Call]:
        """Calls of ours that the round ended with. None where the caller is to make a call first.

        Raises Unavailable for a round that has no end.
        """

    @abstractmethod
    def answer(self, used: list[dict[str, Json]]) -> dict[str, Any]:
        """The answer, after the last round; calls of ours that were not made are left out, and it is cut."""

    @abstractmethod
    def ending(self, used: list[dict[str, Json]]) -> Iterator[dict[str, Any]]:
        """What ends the stream, after the last round."""

    @abstractmethod
    def _name(self, tool: Any) -> str: ...

    @abstractmethod
    def _tool(self, name: str, offer: Offer) -> dict[str, Json]: ...

    @abstractmethod
    def _append(self, results: Sequence[Result]) -> None: ...

    def _choice(self, mode: str) -> Json:
        return mode

    def _listed(self, param: str) -> list[Any]:
        """A copy of the list that a parameter is. Raises Refusal 400."""
        given = self.body.get(param)
        if not isinstance(given, list):
            raise Refusal(400, f"{param} must be a list", param=param)
        return list(given)


def is_ours(tool: Any) -> bool:
    """Whether a tool stands for our operations."""
    return isinstance(tool, dict) and tool.get("type") == KIND


def asks_for_tools(tools: Json) -> bool:
    """Whether a request names our operations among its tools."""
    return isinstance(tools, list) and any(map(is_ours, tools))


def describe(offer: Offer) -> str:
    """What a model is told of an operation."""
    described = offer.described
    hint = _PICTURES_HINT if holds_attachment(described.input) else ""
    return "\n\n".join(part for part in (described.summary, described.description, hint) if part)


def broken_off() -> Unavailable:
    """A stream ended before its end."""
    return Unavailable("the provider broke off its answer")


def _sum(a: dict[str, Json], b: Mapping[str, Json]) -> dict[str, Json]:
    """Numbers added, at any depth; of other values the last that is one."""
    total = {**a}
    for key, value in b.items():
        before = total.get(key)
        if isinstance(value, dict):
            total[key] = _sum(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, int) and isinstance(before, int) and not isinstance(value, bool):
            total[key] = before + value
        elif value is not None or before is None:
            total[key] = value
    return total
