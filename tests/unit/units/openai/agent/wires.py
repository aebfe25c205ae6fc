"""Providers by script on each wire, and units by a table. What they say follows the published formats."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from smol.errors import NotFound
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.types import Attachment, Json
from smol.units.gateway.offers import offers
from smol.units.gateway.settings import AgentSettings
from smol.units.openai.agent.chat import Chat
from smol.units.openai.agent.dialect import Dialect
from smol.units.openai.agent.loop import Agent
from smol.units.openai.agent.messages import Messages
from smol.units.openai.agent.responses import Responses
from smol.units.openai.agent.sequels import Sequel

UNITS = [
    UnitDescription(
        "math",
        "1",
        "",
        [OperationDescription(name="evaluate", summary="Evaluate.", read_only=True,
                              input={"type": "object", "properties": {"expression": {"type": "string"}}})],
    ),
    UnitDescription(
        "detect",
        "1",
        "",
        [OperationDescription(name="image", summary="Find objects.", read_only=True,
                              input={"type": "object", "properties": {"image": {"x-smol-attachment": True}}})],
    ),
    UnitDescription(
        "storage", "1", "", [OperationDescription(name="put"), OperationDescription(name="get", read_only=True)]
    ),
    UnitDescription("lifecycle", "1", "", [OperationDescription(name="units", read_only=True)]),
]  # fmt: skip
PNG = "iVBORw0KGgo="

Calls = tuple[tuple[str, Any], ...]


class Lab(ABC):
    """Units that answer from a table, and a provider that follows a script; its last word it says again and again.

    key: patterns that the client's key covers.
    """

    def __init__(self, *script: dict[str, Any], key: tuple[str, ...] = ("*",), **settings: Any) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.settings = AgentSettings(**settings)
        self.key = key

    # Of a wire ----------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def says(text: str = "", *calls: tuple[str, Any]) -> dict[str, Any]:
        """What a model answers. calls: names and arguments."""

    @staticmethod
    @abstractmethod
    def events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The same as a stream."""

    @staticmethod
    @abstractmethod
    def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
        """A stream as the answer that a client makes of it."""

    @staticmethod
    @abstractmethod
    def function(name: str) -> dict[str, Any]:
        """A function of the caller's."""

    @staticmethod
    @abstractmethod
    def picture(data: str) -> dict[str, Any]:
        """A turn of the user's with a picture, in base64."""

    @staticmethod
    @abstractmethod
    def seen(answer: dict[str, Any]) -> tuple[str, list[str], str]:
        """Texts of an answer, names of the calls in it, and why it ends."""

    @staticmethod
    @abstractmethod
    def result(body: dict[str, Any]) -> list[str]:
        """What the model was told of its calls."""

    @abstractmethod
    def dialect(self, request: dict[str, Any]) -> Dialect:
        """A request, of which turns, tools and more are given."""

    # Of all -------------------------------------------------------------------------------------

    async def call(self, operation: str, arguments: Mapping[str, Any], seconds: float) -> Json:
        assert 0 < seconds <= self.settings.seconds
        self.called.append((operation, dict(arguments)))
        match operation:
            case "math.evaluate":
                return {"exact": str(len(arguments.get("expression", "")))}
            case "detect.image":
                return {"objects": ["cat"], "annotated": Attachment(b"drawn", "image/png")}
        raise NotFound("there is no such key")

    def agent(self, **request: Any) -> Agent:
        request.setdefault("tools", [{"type": "smol"}])
        offered = offers(UNITS, self.settings, self.key)
        return Agent(self.dialect({"model": "far", **request}), offered, self.call, self.settings)

    def _next(self, body: bytes) -> dict[str, Any]:
        self.asked.append(json.loads(body))
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def complete(self, **request: Any) -> dict[str, Any]:
        async def ask(body: bytes) -> bytes:
            return json.dumps(self._next(body)).encode()

        return asyncio.run(self.agent(**request).complete(ask))

    def stream(self, **request: Any) -> list[dict[str, Any]]:
        async def ask(body: bytes) -> AsyncGenerator[dict[str, Json]]:
            reply = self._next(body)
            for event in reply["events"] if "events" in reply else self.events(reply):
                yield json.loads(json.dumps(event))

        async def read() -> list[dict[str, Any]]:
            return [event async for event in self.agent(**request).stream(ask)]

        return asyncio.run(read())

    def answer(self, streamed: bool, **request: Any) -> dict[str, Any]:
        """The answer, either way."""
        return self.gathered(self.stream(stream=True, **request)) if streamed else self.complete(**request)

    @property
    def told(self) -> list[str]:
        return self.result(self.asked[-1])


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _halves(text: str) -> Iterator[str]:
    yield text[: len(text) // 2]
    yield text[len(text) // 2 :]


class ChatLab(Lab):
    @staticmethod
    def says(text: str = "", *calls: tuple[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = [
                {"id": f"call_{index}", "type": "function",
                 "function": {"name": name, "arguments": _text(arguments)}}
                for index, (name, arguments) in enumerate(calls)
            ]  # fmt: skip
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "details": {"cached": 1}}
        return {"id": "c", "object": "chat.completion", "created": 1, "choices": [choice], "usage": usage}

    @staticmethod
    def events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
        base = {"id": reply["id"], "object": "chat.completion.chunk", "created": 1, "model": "far"}
        choice = reply["choices"][0]
        message = choice["message"]

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            return {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

        yield chunk({"role": "assistant", "content": ""})
        for part in _halves(message["content"] or ""):
            yield chunk({"content": part})
        for index, call in enumerate(message.get("tool_calls", ())):
            start = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            yield chunk({"tool_calls": [start]})
            for part in _halves(call["function"]["arguments"]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        yield chunk({}, choice["finish_reason"])
        yield {**base, "choices": [], "usage": reply["usage"]}

    @staticmethod
    def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"content": ""}
        found: dict[str, Any] = {}
        for event in events:
            for choice in event["choices"]:
                message["content"] += choice["delta"].get("content") or ""
                if "tool_calls" in choice["delta"]:
                    message["tool_calls"] = choice["delta"]["tool_calls"]
                found["choices"] = [{"message": message, "finish_reason": choice["finish_reason"]}]
            found.update({key: event[key] for key in ("usage", "smol_calls") if key in event})
        return found

    @staticmethod
    def function(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name}}

    @staticmethod
    def picture(data: str) -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]}

    @staticmethod
    def seen(answer: dict[str, Any]) -> tuple[str, list[str], str]:
        choice = answer["choices"][0]
        calls = [call["function"]["name"] for call in choice["message"].get("tool_calls", ())]
        return choice["message"]["content"] or "", calls, choice["finish_reason"]

    @staticmethod
    def result(body: dict[str, Any]) -> list[str]:
        return [message["content"] for message in body["messages"] if message["role"] == "tool"]

    def dialect(self, request: dict[str, Any]) -> Dialect:
        return Chat({"messages": [{"role": "user", "content": "hi"}], **request})


class ResponsesLab(Lab):
    number = 0

    def __init__(self, *script: dict[str, Any], **settings: Any) -> None:
        super().__init__(*script, **settings)
        self.sequels: list[Sequel] = []

    @staticmethod
    def says(text: str = "", *calls: tuple[str, Any]) -> dict[str, Any]:
        ResponsesLab.number += 1
        number = ResponsesLab.number
        output: list[dict[str, Any]] = [{"id": f"rs_{number}", "type": "reasoning", "summary": []}]
        if text:
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            output.append({"id": f"msg_{number}", "type": "message", "role": "assistant",
                           "status": "completed", "content": [part]})  # fmt: skip
        for index, (name, arguments) in enumerate(calls):
            output.append({"id": f"fc_{number}_{index}", "type": "function_call", "status": "completed",
                           "call_id": f"call_{index}", "name": name, "arguments": _text(arguments)})  # fmt: skip
        details = {
            "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
            "output_tokens_details": {"reasoning_tokens": 1},
        }
        return {
            "id": f"resp_{number}", "object": "response", "created_at": number, "completed_at": number,
            "status": "completed", "error": None, "incomplete_details": None, "model": "far", "output": output,
            "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
            "usage": {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, **details},
        }  # fmt: skip

    @staticmethod
    def events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for number, event in enumerate(ResponsesLab._events(reply)):
            yield {**event, "sequence_number": number}

    @staticmethod
    def _events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
        begun = {**reply, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        for index, item in enumerate(reply["output"]):
            at = {"item_id": item["id"], "output_index": index}
            started = {**item, "status": "in_progress"}
            match item["type"]:
                case "message":
                    part, text = {**at, "content_index": 0}, item["content"][0]["text"]
                    empty = {**item["content"][0], "text": ""}
                    yield {"type": "response.output_item.added", "output_index": index,
                           "item": {**started, "content": []}}  # fmt: skip
                    yield {"type": "response.content_part.added", **part, "part": empty}
                    for half in _halves(text):
                        yield {"type": "response.output_text.delta", **part, "delta": half, "logprobs": []}
                    yield {"type": "response.output_text.done", **part, "text": text, "logprobs": []}
                    yield {"type": "response.content_part.done", **part, "part": item["content"][0]}
                case "function_call":
                    kind, text = "response.function_call_arguments", item["arguments"]
                    yield {"type": "response.output_item.added", "output_index": index,
                           "item": {**started, "arguments": ""}}  # fmt: skip
                    for half in _halves(text):
                        yield {"type": f"{kind}.delta", **at, "delta": half}
                    yield {"type": f"{kind}.done", **at, "name": item["name"], "arguments": text}
                case _:
                    yield {"type": "response.output_item.added", "output_index": index, "item": item}
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        yield {"type": f"response.{reply['status']}", "response": reply}

    @staticmethod
    def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = events[-1]["response"]
        return found

    @staticmethod
    def function(name: str) -> dict[str, Any]:
        return {"type": "function", "name": name, "parameters": {}, "strict": False}

    @staticmethod
    def picture(data: str) -> dict[str, Any]:
        part = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
        return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "look"}, part]}]}

    @staticmethod
    def seen(answer: dict[str, Any]) -> tuple[str, list[str], str]:
        texts = [item["content"][0]["text"] for item in answer["output"] if item["type"] == "message"]
        calls = [item["name"] for item in answer["output"] if item["type"] == "function_call"]
        return "".join(texts), calls, answer["status"]

    @staticmethod
    def result(body: dict[str, Any]) -> list[str]:
        return [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]

    def dialect(self, request: dict[str, Any]) -> Dialect:
        return Responses({"input": "hi", **request}, self.sequels.append)


class MessagesLab(Lab):
    @staticmethod
    def says(text: str = "", *calls: tuple[str, Any]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "thinking", "thinking": "hm, hm", "signature": "signed"}]
        if text:
            content.append({"type": "text", "text": text})
        content += [
            {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": given}
            for index, (name, given) in enumerate(calls)
        ]
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "far", "content": content,
            "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 1,
                      "service_tier": "standard"},
        }  # fmt: skip

    @staticmethod
    def events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
        usage = {**reply["usage"], "output_tokens": 1}
        begun = {**reply, "content": [], "stop_reason": None, "usage": usage}
        yield {"type": "message_start", "message": begun}
        yield {"type": "ping"}
        for index, block in enumerate(reply["content"]):
            match block["type"]:
                case "text":
                    empty = {**block, "text": ""}
                    deltas = [{"type": "text_delta", "text": half} for half in _halves(block["text"])]
                case "thinking":
                    empty = {**block, "thinking": "", "signature": ""}
                    deltas = [{"type": "thinking_delta", "thinking": half} for half in _halves(block["thinking"])]
                    deltas.append({"type": "signature_delta", "signature": block["signature"]})
                case _:
                    empty = {**block, "input": {}}
                    halves = _halves(_text(block["input"]))
                    deltas = [{"type": "input_json_delta", "partial_json": half} for half in ("", *halves)]
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        ending = {"stop_reason": reply["stop_reason"], "stop_sequence": None}
        yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 2}}
        yield {"type": "message_stop"}

    @staticmethod
    def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = dict(events[0]["message"])
        content: list[dict[str, Any]] = []
        for event in events[1:]:
            match event["type"]:
                case "content_block_start":
                    assert event["index"] == len(content)
                    content.append({**event["content_block"], "json": ""})
                case "content_block_delta":
                    (name,) = event["delta"].keys() - {"type"}
                    content[event["index"]][name.removeprefix("partial_")] += event["delta"][name]
                case "message_delta":
                    usage = {**found["usage"], **event["usage"]}
                    found.update({**event["delta"], "smol_calls": event["smol_calls"], "usage": usage})
        for block in content:
            text = block.pop("json")
            if block["type"] == "tool_use":
                block["input"] = json.loads(text)
        return {**found, "content": content}

    @staticmethod
    def function(name: str) -> dict[str, Any]:
        return {"name": name, "input_schema": {"type": "object"}}

    @staticmethod
    def picture(data: str) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": data}
        content = [{"type": "text", "text": "look"}, {"type": "image", "source": source}]
        return {"messages": [{"role": "user", "content": content}]}

    @staticmethod
    def seen(answer: dict[str, Any]) -> tuple[str, list[str], str]:
        texts = [block["text"] for block in answer["content"] if block["type"] == "text"]
        calls = [block["name"] for block in answer["content"] if block["type"] == "tool_use"]
        return "".join(texts), calls, answer["stop_reason"]

    @staticmethod
    def result(body: dict[str, Any]) -> list[str]:
        blocks = [each for message in body["messages"] for each in message["content"] if isinstance(each, dict)]
        return [block["content"] for block in blocks if block["type"] == "tool_result"]

    def dialect(self, request: dict[str, Any]) -> Dialect:
        return Messages({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100, **request})
