"""Operations as tools of a provider's model: it asks for calls, they are made, and it goes on, within bounds.

A model that calls a function of the caller's is interrupted: the caller gets those calls, and ours of the same
moment are not made, for the model asks again. Covers chat completions; knows not how a provider is reached.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from smol.errors import Cancelled, InvalidArgument, NotFound, ResourceExhausted, SmolError, nearest
from smol.types import Attachment, Json
from smol.units.gateway.arguments import data_uri, holds_attachment, with_attachments
from smol.units.gateway.offers import Offer, is_covered, limit_to
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import AgentSettings

__all__ = ["KIND", "Agent", "Call", "asks_for_tools"]

KIND = "smol"
"""The type of the tool that stands for our operations: `{"type": "smol", "operations": ["math.*"]}`."""
LARGEST_RESULT = 60_000
"""Characters of a result that a model is told."""
_MOST_AT_ONCE = 128
_PICTURE = re.compile(r"image:(\d{1,4})\Z")
_PICTURES_HINT = "Pictures of this conversation are given as image:1, image:2 and so on."

Call = Callable[[str, Mapping[str, Any], float], Awaitable[Json]]
"""Calls an operation with arguments, within so many seconds."""


def asks_for_tools(tools: Json) -> bool:
    """Whether a request names our operations among its tools."""
    return isinstance(tools, list) and any(map(_is_ours, tools))


class Agent:
    """One request, until its model is done.

    request: as the caller sent it. offered: our operations by their names as tools.
    """

    def __init__(
        self, request: dict[str, Any], offered: Mapping[str, Offer], call: Call, settings: AgentSettings
    ) -> None:
        given = request.get("tools") or []
        self._theirs = [tool for tool in given if not _is_ours(tool)]
        taken = {_name_of(tool) for tool in self._theirs}
        patterns = _patterns(given)
        self._ours = {
            name: offer
            for name, offer in offered.items()
            if name not in taken and is_covered(offer.operation, patterns)
        }
        if request.get("n") not in (None, 1):
            raise Refusal(400, "n must be 1 where Smol's operations are tools", param="n")
        if not isinstance(request.get("messages"), list):
            raise Refusal(400, "messages must be a list", param="messages")
        self._taken = taken
        self._call = call
        self._settings = settings
        self._until = time.monotonic() + settings.seconds
        self._rounds = 0
        self._ended = False
        self._usage: dict[str, Json] = {}
        self._pictures = _pictures(request["messages"])
        self._body = {**request, "messages": list(request["messages"])}
        self._body["tools"] = [*self._theirs, *(_function(name, offer) for name, offer in self._ours.items())]
        if not self._body["tools"]:
            del self._body["tools"]
        self.used: list[dict[str, Json]] = []

    async def complete(self, ask: Callable[[bytes], Awaitable[bytes]]) -> dict[str, Json]:
        """The last answer of the model; its usage is that of all rounds. ask: a provider, with a whole answer."""
        while True:
            reply = _decoded(await ask(msgspec.json.encode(self._body)))
            message = _first_choice(reply).get("message") or {}
            self._count(reply.get("usage"))
            if await self._acts(message):
                continue
            self._take_ours_away(message, _first_choice(reply))
            if self._usage:
                reply["usage"] = self._usage
            reply["smol_calls"] = self.used
            return reply

    async def stream(
        self, ask: Callable[[bytes], AsyncGenerator[dict[str, Json]]]
    ) -> AsyncGenerator[dict[str, Json]]:
        """Chunks of all rounds as those of one answer, texts as they come. ask: a provider, chunk by chunk."""
        base: dict[str, Json] = {}
        while True:
            held = _Held()
            async for chunk in ask(msgspec.json.encode(self._body)):
                base = base or {key: chunk[key] for key in ("id", "object", "created", "model") if key in chunk}
                self._count(chunk.get("usage"))
                delta = held.take(chunk)
                if delta and (self._rounds == 0 or delta.keys() - {"role"}):
                    yield {**chunk, **base, **_choices(delta), **_no_usage(chunk)}
            if await self._acts(held.message):
                continue
            choice: dict[str, Json] = {"finish_reason": held.finish}
            self._take_ours_away(held.message, choice)
            calls = [{**call, "index": index} for index, call in enumerate(held.message.get("tool_calls") or ())]
            if calls:
                yield {**base, **_choices({"tool_calls": calls})}
            yield {**base, **_choices({}, choice["finish_reason"] or "stop"), "smol_calls": self.used}
            if self._usage:
                yield {**base, "choices": [], "usage": self._usage}
            return

    async def _acts(self, message: dict[str, Any]) -> bool:
        """Make the calls that a message asks for. False: it asks for none of ours, or there were enough rounds."""
        calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
        if not calls or any(_name_of(call) in self._taken for call in calls):
            return False
        if self._ended:
            return False
        self._rounds += 1
        self._body["messages"].append(message)
        for call in calls:
            content = await self._result(_name_of(call), (call.get("function") or {}).get("arguments"))
            self._body["messages"].append({"role": "tool", "tool_call_id": call.get("id"), "content": content})
        # A call that the caller demanded has been made; and in the end the model is to say what it found.
        self._ended = self._rounds >= self._settings.rounds or time.monotonic() > self._until
        self._body["tool_choice"] = "none" if self._ended else "auto"
        return True

    async def _result(self, name: str, text: Any) -> str:
        """What the model is told of a call: mistakes too, its own and those of units, that it may do better."""
        offer = self._ours.get(name)
        entry: dict[str, Json] = {"operation": offer.operation if offer is not None else name}
        self.used.append(entry)
        try:
            if offer is None:
                raise NotFound(f"no tool {name!r}{nearest(name, self._ours)}")
            given = _arguments(text)
            entry["arguments"] = given
            left_seconds = self._until - time.monotonic()
            if len(self.used) > self._settings.calls or left_seconds <= 0:
                raise ResourceExhausted("no more calls can be made for this answer: answer with what you have")
            arguments = with_attachments(self._with_pictures(given), offer.described)
            value = await self._call(offer.operation, limit_to(self._ours, offer, arguments), left_seconds)
        except Cancelled:
            raise
        except SmolError as error:
            code = error.code if error.code != "UNKNOWN" else "INVALID_ARGUMENT"
            entry["error"] = {"code": code, "message": error.message}
            return f"{code}: {error.message}"
        said = msgspec.json.encode(self._told(value)).decode()
        if len(said) > LARGEST_RESULT:
            return f"{said[:LARGEST_RESULT]}… (the answer has {len(said)} characters: ask for less)"
        return said

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

    def _take_ours_away(self, message: dict[str, Any], choice: dict[str, Any]) -> None:
        """Leave the caller only calls of functions that are the caller's."""
        calls = message.get("tool_calls")
        if not calls:
            return
        kept = [call for call in calls if _name_of(call) in self._taken]
        if kept:
            message["tool_calls"] = kept
            return
        del message["tool_calls"]
        message["content"] = message.get("content") or ""
        choice["finish_reason"] = "length"

    def _count(self, usage: Json) -> None:
        if isinstance(usage, dict):
            self._usage = _sum(self._usage, usage)


class _Held:
    """A message put together from chunks. Calls are held back, texts handed on."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.finish: str | None = None

    def take(self, chunk: dict[str, Json]) -> dict[str, Any]:
        """What of a chunk may be handed on."""
        choice = _first_choice(chunk)
        self.finish = choice.get("finish_reason") or self.finish
        delta = dict(choice.get("delta") or {})
        for part in delta.pop("tool_calls", None) or ():
            self._add(part)
        if isinstance(delta.get("content"), str):
            self.message["content"] = (self.message["content"] or "") + delta["content"]
        return delta

    def _add(self, part: dict[str, Any]) -> None:
        calls = self.message.setdefault("tool_calls", [])
        index = part.get("index")
        index = index if isinstance(index, int) and 0 <= index < _MOST_AT_ONCE else len(calls)
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _is_ours(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == KIND


def _patterns(tools: Sequence[Any]) -> list[str]:
    """Which operations a request asks for. Raises Refusal 400."""
    found: list[str] = []
    for index, tool in enumerate(tools):
        if _is_ours(tool):
            named = tool.get("operations", ["*"])
            if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
                where = f"tools[{index}].operations"
                raise Refusal(400, f'{where} must be a list of patterns, as ["math.*"]', param=where)
            found += named
    return found or ["*"]


def _function(name: str, offer: Offer) -> dict[str, Json]:
    described = offer.described
    hint = _PICTURES_HINT if holds_attachment(described.input) else ""
    text = "\n\n".join(part for part in (described.summary, described.description, hint) if part)
    return {"type": "function", "function": {"name": name, "description": text, "parameters": offer.input_schema}}


def _name_of(tool: Any) -> str:
    """Of a function, or of a call of one."""
    function = tool.get("function") if isinstance(tool, dict) else None
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def _arguments(text: Any) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, TypeError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("the arguments are not a JSON object")
    return given


def _pictures(messages: Sequence[Any]) -> list[str]:
    """The data: URIs of a conversation's pictures, in order."""
    found = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            url = (part.get("image_url") or {}).get("url") if isinstance(part, dict) else None
            if isinstance(url, str):
                found.append(url)
    return found


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal(502, "the provider's answer is not JSON", code="UNAVAILABLE")
    return found


def _first_choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _choices(delta: dict[str, Any], finish: Json = None) -> dict[str, Json]:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def _no_usage(chunk: Mapping[str, Json]) -> dict[str, Json]:
    return {"usage": None} if "usage" in chunk else {}


def _sum(a: dict[str, Json], b: dict[str, Json]) -> dict[str, Json]:
    """Numbers added, at any depth; of other values the last."""
    total = {**a}
    for key, value in b.items():
        before = total.get(key)
        if isinstance(value, dict):
            total[key] = _sum(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, int) and isinstance(before, int) and not isinstance(value, bool):
            total[key] = before + value
        else:
            total[key] = value
    return total
