"""Calls that a model asks for are made here: what is offered and no more, within bounds, pictures by name."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from smol.errors import Cancelled, InvalidArgument, NotFound, ResourceExhausted, SmolError, nearest
from smol.types import Attachment, Json
from smol.units.gateway.arguments import data_uri, with_attachments
from smol.units.gateway.offers import Offer, limit_to
from smol.units.gateway.settings import AgentSettings
from smol.units.openai.agent.dialect import Call, Result

__all__ = ["LARGEST_RESULT", "Calls", "Operate"]

LARGEST_RESULT = 60_000
"""Characters of a result that a model is told."""
_PICTURE = re.compile(r"image:(\d{1,4})\Z")

Operate = Callable[[str, Mapping[str, Any], float], Awaitable[Json]]
"""Calls an operation with arguments, within so many seconds."""


class Calls:
    """The calls for one answer. pictures: data: URIs that may be named as image:1 and so on.

    used: what was called, for the caller to see.
    """

    def __init__(
        self, offered: Mapping[str, Offer], operate: Operate, settings: AgentSettings, pictures: list[str]
    ) -> None:
        self._offered = offered
        self._operate = operate
        self._most = settings.calls
        self._until = time.monotonic() + settings.seconds
        self._pictures = pictures
        self.used: list[dict[str, Json]] = []

    def left_seconds(self) -> float:
        """How long calls may still take."""
        return self._until - time.monotonic()

    async def make(self, call: Call) -> Result:
        """Mistakes are results too, the model's own and those of units, that it may do better."""
        offer = self._offered.get(call.name)
        entry: dict[str, Json] = {"operation": offer.operation if offer is not None else call.name}
        self.used.append(entry)
        try:
            if offer is None:
                raise NotFound(f"no tool {call.name!r}{nearest(call.name, self._offered)}")
            given = _arguments(call.arguments)
            entry["arguments"] = given
            left_seconds = self.left_seconds()
            if len(self.used) > self._most or left_seconds <= 0:
                raise ResourceExhausted("no more calls can be made for this answer: answer with what you have")
            arguments = with_attachments(self._with_pictures(given), offer.described)
            value = await self._operate(offer.operation, limit_to(self._offered, offer, arguments), left_seconds)
        except Cancelled:
            raise
        except SmolError as error:
            code = error.code if error.code != "UNKNOWN" else "INVALID_ARGUMENT"
            entry["error"] = {"code": code, "message": error.message}
            return Result(call.id, f"{code}: {error.message}", failed=True)
        said = msgspec.json.encode(self._told(value)).decode()
        if len(said) > LARGEST_RESULT:
            said = f"{said[:LARGEST_RESULT]}… (the answer has {len(said)} characters: ask for less)"
        return Result(call.id, said, failed=False)

    def _with_pictures(self, value: Any) -> Any:
        """Arguments with the pictures that they name."""
        if isinstance(value, dict):
            return {key: self._with_pictures(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_pictures(item) for item in value]
        named = _PICTURE.match(value) if isinstance(value, str) else None
        if named is None:
            return value
        if not 1 <= int(named[1]) <= len(self._pictures):
            raise InvalidArgument(f"there is no {value}: the conversation has {len(self._pictures)} pictures")
        return self._pictures[int(named[1]) - 1]

    def _told(self, value: Json) -> Json:
        """A result in which attachments are told of; pictures can be named from now on."""
        if isinstance(value, Attachment):
            said = f"{len(value)} bytes of {value.media_type}"
            if value.media_type.startswith("image/"):
                self._pictures.append(data_uri(value))
                return f"image:{len(self._pictures)} ({said})"
            return said
        if isinstance(value, dict):
            return {key: self._told(item) for key, item in value.items()}
        return [self._told(item) for item in value] if isinstance(value, list) else value


def _arguments(given: Any) -> dict[str, Any]:
    if given is None or isinstance(given, str):
        try:
            given = msgspec.json.decode(given or "{}")
        except (msgspec.DecodeError, RecursionError):
            given = None
    if not isinstance(given, dict):
        raise InvalidArgument("the arguments are not a JSON object")
    return given
