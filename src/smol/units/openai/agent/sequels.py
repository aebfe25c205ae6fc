"""How conversations that a provider keeps go on after answers of several rounds, in memory.

The caller of a streamed response knows the id of its first round, and the provider goes on from the last one; and
the provider waits for results of our calls that the caller was never shown.
"""

from __future__ import annotations

from typing import Any

import msgspec

from smol.types import Json
from smol.units.openai.latest import Latest

__all__ = ["Sequel", "Sequels", "as_items"]


class Sequel(msgspec.Struct, frozen=True):
    """What is to be asked after an answer.

    shown: the id that the caller knows. last: the one that the provider goes on from. answers: input that has to
    come first.
    """

    shown: str
    last: str
    answers: list[dict[str, Json]]


class Sequels:
    """The latest. owner: name of the key that they are for."""

    def __init__(self) -> None:
        self._kept: Latest[tuple[str, str], Sequel] = Latest()

    def keep(self, owner: str, sequel: Sequel) -> None:
        """Keep one, and let the oldest go."""
        self._kept.keep((owner, sequel.shown), sequel)

    def resumed(self, owner: str, request: dict[str, Any]) -> dict[str, Any]:
        """A request as the provider can go on from it."""
        sequel = self._kept.get((owner, str(request.get("previous_response_id"))))
        if sequel is None:
            return request
        given = as_items(request.get("input"))
        told = [*sequel.answers, *given] if isinstance(given, list) else given
        return {**request, "previous_response_id": sequel.last, "input": told}


def as_items(given: Any) -> Any:
    """An `input` of text as the item that it stands for."""
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
