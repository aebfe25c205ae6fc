"""The dialect of Anthropic's `/v1/messages`.

Calls are blocks of type `tool_use`; results, blocks of type `tool_result` in a turn of the user's. What a round
said is given back as it came, for thoughts are signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from smol.types import Json
from smol.units.gateway.offers import Offer
from smol.units.openai.agent.dialect import Call, Dialect, Result, broken_off, describe

__all__ = ["Messages"]

_CUT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
_GROWING = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""The field of a block that a delta adds to; the delta has it by the same name."""


class Messages(Dialect):
    """One message. The caller sees the blocks of all rounds but our calls."""

    place = "messages"
    done = b""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__(request)
        self._messages = self.body["messages"] = self._listed("messages")
        self._asked_choice = request.get("tool_choice")
        self._shown: list[dict[str, Any]] = []
        self._begin()

    def _begin(self) -> None:
        """A round: its blocks and where they are shown, both by the provider's index; and its end."""
        self._blocks: dict[int, dict[str, Any]] = {}
        self._places: dict[int, int] = {}
        self._inputs: dict[int, str] = {}
        self._round_usage: dict[str, Json] = {}
        self._end: dict[str, Any] = {}
        self._whole = False

    def pictures(self) -> list[str]:
        """The sources of images, also of those in results of tools; uploaded files stay where they are."""
        return [uri for message in self._messages if isinstance(message, dict) for uri in _pictures(message)]

    def hear(self, reply: dict[str, Any]) -> None:
        """Take a message."""
        for index, block in enumerate(reply.get("content") or ()):
            self._place(index, block)
        self._end = reply
        self._whole = True
        self.count(reply.get("usage"))

    def pass_on(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Take an event. Indexes go on over rounds; a message has one start and one end."""
        index = event.get("index", -1)
        match event.get("type"):
            case "message_start":
                self._use(event.get("message"))
                return [] if self.rounds else [event]
            case "message_delta":
                self._use(event)
                delta = {**self._end.get("delta", {}), **(event.get("delta") or {})}
                self._end = {**self._end, **event, "delta": delta}
                return []
            case "message_stop":
                self._whole = True
                self.count(self._round_usage)
                return []
            case "content_block_start":
                block = event.get("content_block")
                self._place(index, dict(block) if isinstance(block, dict) else {})
            case "content_block_delta":
                self._grow(index, event.get("delta") or {})
            case "content_block_stop":
                self._close(index)
            case _:
                return [event]
        place = self._places.get(index)
        return [] if place is None else [{**event, "index": place}]

    def _use(self, said: Any) -> None:
        """Counts of a round are totals: the last of each holds."""
        usage = said.get("usage") if isinstance(said, dict) else None
        if isinstance(usage, dict):
            self._round_usage.update({key: value for key, value in usage.items() if value is not None})

    def _place(self, index: int, block: Any) -> None:
        """Take a block; it is shown after the others, unless it is a call of ours."""
        if isinstance(block, dict):
            self._blocks[index] = block
            if not self._is_our_call(block):
                self._places[index] = len(self._shown)
                self._shown.append(block)

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        block, kind = self._blocks.get(index, {}), str(delta.get("type"))
        field = _GROWING.get(kind)
        if field is not None:
            block[field] = (block.get(field) or "") + str(delta.get(field) or "")
        elif kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + str(delta.get("partial_json") or "")
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]

    def _close(self, index: int) -> None:
        text = self._inputs.get(index)
        if text and index in self._blocks:
            self._blocks[index]["input"] = _object_or_text(text)

    def calls(self) -> list[Call]:
        """Those of the blocks, unless one is of a tool of the caller's, or the message is not whole."""
        if not self._whole:
            raise broken_off()
        asked = [block for block in self._blocks.values() if block.get("type") == "tool_use"]
        if self._reason() in _CUT or not all(map(self._is_our_call, asked)):
            return []
        return [Call(block.get("id", ""), block.get("name", ""), block.get("input")) for block in asked]

    def _reason(self) -> Json:
        return self._end.get("delta", self._end).get("stop_reason")

    def _is_our_call(self, block: dict[str, Any]) -> bool:
        return block.get("type") == "tool_use" and block.get("name") not in self.taken

    def _append(self, results: Sequence[Result]) -> None:
        said = [_sendable(block) for _, block in sorted(self._blocks.items()) if block.get("text") != ""]
        told = [
            {
                "type": "tool_result",
                "tool_use_id": result.id,
                "content": result.text,
                **({"is_error": True} if result.failed else {}),
            }
            for result in results
        ]
        self._messages += [{"role": "assistant", "content": said}, {"role": "user", "content": told}]
        self._begin()

    def answer(self, used: list[dict[str, Json]]) -> dict[str, Any]:
        """The last message with the blocks of all."""
        found = {**self._end, "content": self._shown, "smol_calls": used}
        if self.usage:
            found["usage"] = self.usage
        if self.calls():
            found["stop_reason"] = "max_tokens"
        return found

    def ending(self, used: list[dict[str, Json]]) -> Iterator[dict[str, Any]]:
        """Why it ends, with the usage of all rounds; and that it does."""
        delta = dict(self._end.get("delta", {}))
        if self.calls():
            delta["stop_reason"] = "max_tokens"
        usage = {"output_tokens": 0, **self.usage}
        yield {**self._end, "type": "message_delta", "delta": delta, "usage": usage, "smol_calls": used}
        yield {"type": "message_stop"}

    def _choice(self, mode: str) -> Json:
        asked = self._asked_choice if isinstance(self._asked_choice, dict) else {}
        alone = mode == "auto" and asked.get("disable_parallel_tool_use")
        return {"type": mode, **({"disable_parallel_tool_use": True} if alone else {})}

    def _name(self, tool: Any) -> str:
        return str(tool.get("name") or "") if isinstance(tool, dict) else ""

    def _tool(self, name: str, offer: Offer) -> dict[str, Json]:
        return {"name": name, "description": describe(offer), "input_schema": offer.input_schema}


def _pictures(holder: dict[str, Any]) -> Iterator[str]:
    content = holder.get("content")
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "tool_result":
            yield from _pictures(block)
        elif block.get("type") == "image":
            source = block.get("source") or {}
            if source.get("type") == "base64":
                yield f"data:{source.get('media_type')};base64,{source.get('data')}"
            else:
                yield str(source.get("url") or "")


def _object_or_text(text: str) -> Any:
    """An input, or what the model wrote in place of one."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def _sendable(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it may be given back: what was no input was none."""
    wrong = block.get("type") == "tool_use" and not isinstance(block.get("input"), dict)
    return {**block, "input": {}} if wrong else block
