"""The dialect of `/v1/responses`, after OpenAI's and Open Responses' documents.

Calls are items of type `function_call`; results, items of type `function_call_output`. What a round put out is
given back with the results, for a model that reasons needs its reasoning to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from smol.types import Json
from smol.units.gateway.offers import Offer
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.dialect import Call, Dialect, Result, broken_off, describe
from smol.units.openai.agent.sequels import Sequel, as_items

__all__ = ["Responses"]

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_NOT_DONE = frozenset({"incomplete", "failed", "cancelled"})
_NOT_MADE = "this call was not made: ask again if it is still needed"


class Responses(Dialect):
    """One response. The caller sees all rounds' items but our calls.

    keep: takes how a conversation that the provider keeps goes on, where the answer's id alone won't do.
    """

    place = "responses"

    def __init__(self, request: dict[str, Any], keep: Callable[[Sequel], None]) -> None:
        super().__init__(request)
        for name in ("background", "conversation"):
            if request.get(name):
                raise Refusal(400, f"{name} is not possible where Smol's operations are tools", param=name)
        self.body["input"] = as_items(request.get("input"))
        self._input = self.body["input"] = self._listed("input")
        self._keep = keep
        self._asked_choice = request.get("tool_choice") or "auto"
        self._opened: dict[str, Json] = {}
        self._shown: list[dict[str, Any]] = []
        self._sent = 0
        self._begin()

    def _begin(self) -> None:
        """A round: its items and where they are shown, both by the provider's index; and its end."""
        self._items: dict[int, dict[str, Any]] = {}
        self._places: dict[int, int] = {}
        self._response: dict[str, Any] | None = None

    def pictures(self) -> list[str]:
        """The `image_url` of parts; uploaded files stay where they are."""
        found = []
        for item in self._input:
            content = item.get("content") if isinstance(item, dict) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and part.get("type") == "input_image":
                    url = part.get("image_url")
                    found.append(url if isinstance(url, str) else "")
        return found

    def hear(self, reply: dict[str, Any]) -> None:
        """Take a response."""
        for index, item in enumerate(reply.get("output") or ()):
            self._place(index, item)
        self._end(reply)

    def pass_on(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Take an event. Indexes and numbers go on over rounds; the end of a round is not the end."""
        response = event.get("response")
        if event.get("type") in _ENDS:
            self._end(response)
            return []
        if isinstance(response, dict):
            if self.rounds:
                return []
            self._opened = {key: response[key] for key in ("id", "created_at") if key in response}
            event = {**event, "response": {**response, **self._as_asked()}}
        elif "output_index" in event:
            place = self._place(event["output_index"], event.get("item"))
            if place is None:
                return []
            event = {**event, "output_index": place}
        return [self._numbered(event)]

    def _place(self, index: int, item: Any) -> int | None:
        """Where an item is shown; None for our calls."""
        if isinstance(item, dict):
            self._items[index] = item
            if not self._is_our_call(item):
                place = self._places.setdefault(index, len(self._shown))
                self._shown[place : place + 1] = [item]
        return self._places.get(index)

    def _end(self, response: Any) -> None:
        if not isinstance(response, dict):
            raise broken_off()
        self._response = response
        self.count(response.get("usage"))

    def calls(self) -> list[Call]:
        """Those of the items, unless another item waits for the caller, or the response is not whole."""
        if self._response is None:
            raise broken_off()
        asked = self._our_calls()
        answered = {item.get("call_id") for item in self._items.values() if _is_output(item)}
        waiting = [
            item
            for item in self._items.values()
            if item.get("type") == "mcp_approval_request"
            or (item.get("call_id") and item["call_id"] not in answered and item not in asked)
        ]
        if waiting or self._response.get("status") in _NOT_DONE:
            return []
        return [Call(item.get("call_id", ""), item.get("name", ""), item.get("arguments")) for item in asked]

    def _our_calls(self) -> list[dict[str, Any]]:
        return [item for item in self._items.values() if self._is_our_call(item)]

    def _is_our_call(self, item: dict[str, Any]) -> bool:
        return item.get("type") == "function_call" and item.get("name") not in self.taken

    def _append(self, results: Sequence[Result]) -> None:
        self._input += [item for _, item in sorted(self._items.items())]
        self._input += [_output(result.id, result.text) for result in results]
        self._begin()

    def answer(self, used: list[dict[str, Json]]) -> dict[str, Any]:
        """The last response with the items of all."""
        last = self._response or {}
        found = {**last, **self._opened, **self._as_asked(), "output": self._shown, "smol_calls": used}
        if self.usage:
            found["usage"] = self.usage
        if self.calls():
            cut = {"reason": "max_output_tokens"}
            found.update(status="incomplete", completed_at=None, incomplete_details=cut)
        answers = [_output(call.get("call_id", ""), _NOT_MADE) for call in self._our_calls()]
        if answers or found.get("id") != last.get("id"):
            self._keep(Sequel(str(found.get("id")), str(last.get("id")), answers))
        return found

    def ending(self, used: list[dict[str, Json]]) -> Iterator[dict[str, Any]]:
        """The one event with the whole response."""
        response = self.answer(used)
        status = response.get("status")
        kind = f"response.{status if status in ('incomplete', 'failed') else 'completed'}"
        yield self._numbered({"type": kind, "response": response})

    def _as_asked(self) -> dict[str, Json]:
        """What of a response repeats the request, as the caller made it."""
        return {"tools": self.theirs, "tool_choice": self._asked_choice}

    def _numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        return {**event, "sequence_number": self._sent - 1}

    def _name(self, tool: Any) -> str:
        return str(tool.get("name") or "") if isinstance(tool, dict) else ""

    def _tool(self, name: str, offer: Offer) -> dict[str, Json]:
        # What is not said to be loose is strict here, and strict schemas have no optional arguments.
        return {
            "type": "function",
            "name": name,
            "description": describe(offer),
            "parameters": offer.input_schema,
            "strict": False,
        }


def _is_output(item: dict[str, Any]) -> bool:
    return str(item.get("type")).endswith("_output")


def _output(call_id: str, text: str) -> dict[str, Json]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}
