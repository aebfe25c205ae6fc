"""The dialect of `/v1/chat/completions`. Calls are functions in `tool_calls`; results, messages of role `tool`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smol.types import Json
from smol.units.gateway.offers import Offer
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.dialect import Call, Dialect, Result, describe

__all__ = ["Chat"]

_MOST_AT_ONCE = 128


class Chat(Dialect):
    """One chat. The caller sees the last message; in a stream, the texts of all."""

    place = "chat/completions"
    named = False

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__(request)
        if request.get("n") not in (None, 1):
            raise Refusal(400, "n must be 1 where Smol's operations are tools", param="n")
        self._messages = self.body["messages"] = self._listed("messages")
        self._base: dict[str, Json] = {}
        self._reply: dict[str, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._finish: Json = None

    def pictures(self) -> list[str]:
        """The `image_url` of parts."""
        found = []
        for message in self._messages:
            content = message.get("content") if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else ():
                url = (part.get("image_url") or {}).get("url") if isinstance(part, dict) else None
                if isinstance(url, str):
                    found.append(url)
        return found

    def hear(self, reply: dict[str, Any]) -> None:
        """Take a completion."""
        self.count(reply.get("usage"))
        choice = _first_choice(reply)
        self._reply = reply
        self._message = choice.get("message") or self._message
        self._finish = choice.get("finish_reason")

    def pass_on(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk. Calls are held back, texts handed on."""
        names = ("id", "object", "created", "model")
        self._base = self._base or {key: event[key] for key in names if key in event}
        self.count(event.get("usage"))
        choice = _first_choice(event)
        self._finish = choice.get("finish_reason") or self._finish
        delta = dict(choice.get("delta") or {})
        for part in delta.pop("tool_calls", None) or ():
            self._add(part)
        if isinstance(delta.get("content"), str):
            self._message["content"] = (self._message["content"] or "") + delta["content"]
        if not delta or (self.rounds and not delta.keys() - {"role"}):
            return []
        no_usage = {"usage": None} if "usage" in event else {}
        return [{**event, **self._base, **_choices(delta), **no_usage}]

    def _add(self, part: dict[str, Any]) -> None:
        calls = self._message.setdefault("tool_calls", [])
        index = part.get("index")
        index = index if isinstance(index, int) and 0 <= index < _MOST_AT_ONCE else len(calls)
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def calls(self) -> list[Call]:
        """Those of the message, unless one is of a function of the caller's."""
        asked = [call for call in self._message.get("tool_calls") or () if isinstance(call, dict)]
        if any(self._name(call) in self.taken for call in asked):
            return []
        return [
            Call(call.get("id", ""), self._name(call), (call.get("function") or {}).get("arguments"))
            for call in asked
        ]

    def _append(self, results: Sequence[Result]) -> None:
        self._messages.append(self._message)
        for result in results:
            self._messages.append({"role": "tool", "tool_call_id": result.id, "content": result.text})
        self._begin()

    def answer(self, used: list[dict[str, Json]]) -> dict[str, Any]:
        """The last completion."""
        self._take_ours_away()
        _first_choice(self._reply).update(message=self._message, finish_reason=self._finish)
        usage = {"usage": self.usage} if self.usage else {}
        return {**self._reply, **usage, "smol_calls": used}

    def ending(self, used: list[dict[str, Json]]) -> Iterator[dict[str, Any]]:
        """The caller's calls, the reason why it ends, and the usage."""
        self._take_ours_away()
        calls = [{**call, "index": index} for index, call in enumerate(self._message.get("tool_calls") or ())]
        if calls:
            yield {**self._base, **_choices({"tool_calls": calls})}
        yield {**self._base, **_choices({}, self._finish or "stop"), "smol_calls": used}
        if self.usage:
            yield {**self._base, "choices": [], "usage": self.usage}

    def _take_ours_away(self) -> None:
        """Leave the caller only calls of functions that are the caller's."""
        asked = self._message.get("tool_calls")
        if not asked:
            return
        kept = [call for call in asked if self._name(call) in self.taken]
        if kept:
            self._message["tool_calls"] = kept
            return
        del self._message["tool_calls"]
        self._message["content"] = self._message.get("content") or ""
        self._finish = "length"

    def _name(self, tool: Any) -> str:
        """Of a function, or of a call of one."""
        function = tool.get("function") if isinstance(tool, dict) else None
        return str(function.get("name", "")) if isinstance(function, dict) else ""

    def _tool(self, name: str, offer: Offer) -> dict[str, Json]:
        function = {"name": name, "description": describe(offer), "parameters": offer.input_schema}
        return {"type": "function", "function": function}


def _first_choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _choices(delta: dict[str, Any], finish: Json = None) -> dict[str, Json]:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
