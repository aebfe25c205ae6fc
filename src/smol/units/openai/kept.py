"""What is kept of responses, for conversations that go on."""

from __future__ import annotations

import msgspec

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import Turn
from smol.units.openai.latest import Latest

__all__ = ["Kept", "Responses"]


class Kept(msgspec.Struct):
    """A response that may be asked for again, with the conversation up to it. owner: name of the key it is for."""

    value: dict[str, Json]
    turns: list[Turn]
    owner: str


class Responses:
    """The latest responses that were to be stored, in memory."""

    def __init__(self) -> None:
        self._kept: Latest[str, Kept] = Latest()

    def keep(self, kept: Kept) -> None:
        """Keep one, and let the oldest go."""
        self._kept.keep(str(kept.value["id"]), kept)

    def get(self, response_id: str, owner: str, param: str = "response_id") -> Kept:
        """Raises Refusal 404, also for one that is somebody else's."""
        kept = self._kept.get(response_id)
        if kept is None or kept.owner != owner:
            raise Refusal(
                404, f"no response {response_id!r}: it is not there, or no longer", code="NOT_FOUND", param=param
            )
        return kept

    def delete(self, response_id: str, owner: str) -> None:
        """Raises Refusal 404."""
        self.get(response_id, owner)
        del self._kept[response_id]
