"""The loop of a provider's model with our operations as its tools: a provider by script, units by a table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from smol.errors import NotFound
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.types import Attachment, Json
from smol.units.gateway.offers import Offer, offers
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import AgentSettings
from smol.units.openai.agent import LARGEST_RESULT, Agent, asks_for_tools

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
PNG = "data:image/png;base64,iVBORw0KGgo="


class Lab:
    """Units that answer from a table, and a provider that says what the script says."""

    def __init__(self, *script: dict[str, Any], **settings: Any) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.settings = AgentSettings(**settings)

    def offered(self) -> dict[str, Offer]:
        return offers(UNITS, self.settings)

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
        request.setdefault("messages", [{"role": "user", "content": "hi"}])
        request.setdefault("tools", [{"type": "smol"}])
        return Agent({"model": "far", **request}, self.offered(), self.call, self.settings)

    def complete(self, **request: Any) -> dict[str, Any]:
        async def ask(body: bytes) -> bytes:
            self.asked.append(json.loads(body))
            return json.dumps(self.script.pop(0) if len(self.script) > 1 else self.script[0]).encode()

        return asyncio.run(self.agent(**request).complete(ask))

    def stream(self, **request: Any) -> list[dict[str, Any]]:
        async def ask(body: bytes) -> AsyncGenerator[dict[str, Json]]:
            self.asked.append(json.loads(body))
            for chunk in self.script.pop(0)["chunks"]:
                yield chunk

        async def read() -> list[dict[str, Any]]:
            return [chunk async for chunk in self.agent(**request).stream(ask)]

        return asyncio.run(read())

    @property
    def told(self) -> list[str]:
        """What the model was told of its calls."""
        return [message["content"] for message in self.asked[-1]["messages"] if message["role"] == "tool"]


def wants(*calls: tuple[str, Any]) -> dict[str, Any]:
    """A model that asks for calls."""
    made = [
        {"id": f"call_{index}", "type": "function",
         "function": {"name": name, "arguments": text if isinstance(text, str) else json.dumps(text)}}
        for index, (name, text) in enumerate(calls)
    ]  # fmt: skip
    message = {"role": "assistant", "content": None, "tool_calls": made}
    return {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 10, "total_tokens": 12, "details": {"cached": 1}},
    }


def says(text: str) -> dict[str, Any]:
    return {
        "id": "d",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "total_tokens": 25, "details": {"cached": 2}},
    }


def test_a_model_calls_what_it_needs_and_then_answers() -> None:
    lab = Lab(
        wants(("math_evaluate", {"expression": "1+1"}), ("math_evaluate", {"expression": "2"})),
        wants(("storage_get", {"key": "a"})),
        says("done"),
    )
    reply = lab.complete(temperature=0.5, stop=["x"])
    assert reply["choices"][0]["message"]["content"] == "done"
    assert [operation for operation, _ in lab.called] == ["math.evaluate", "math.evaluate", "storage.get"]
    assert reply["usage"] == {"prompt_tokens": 40, "total_tokens": 49, "details": {"cached": 4}}
    assert [entry["operation"] for entry in reply["smol_calls"]] == [
        "math.evaluate",
        "math.evaluate",
        "storage.get",
    ]
    assert reply["smol_calls"][2]["error"]["code"] == "NOT_FOUND"
    assert lab.told == ['{"exact":"3"}', '{"exact":"1"}', "NOT_FOUND: there is no such key"]
    assert [message["role"] for message in lab.asked[-1]["messages"]] == [
        "user", "assistant", "tool", "tool", "assistant", "tool",
    ]  # fmt: skip
    assert all(body["temperature"] == 0.5 and body["stop"] == ["x"] for body in lab.asked)


def test_what_only_reads_is_offered_and_more_only_where_it_is_allowed() -> None:
    def names(lab: Lab, **request: Any) -> set[str]:
        lab.complete(**request)
        return {tool["function"]["name"] for tool in lab.asked[0].get("tools", ())}

    assert names(Lab(says(""))) == {"math_evaluate", "detect_image", "storage_get"}
    assert "storage_put" in names(Lab(says(""), allow=("storage.*",)))
    assert names(Lab(says(""), deny=("*",))) == set()
    assert names(Lab(says("")), tools=[{"type": "smol", "operations": ["math.*"]}]) == {"math_evaluate"}
    # A function of the caller's own hides ours of that name.
    own = {"type": "function", "function": {"name": "math_evaluate", "description": "mine"}}
    lab = Lab(says(""))
    assert names(lab, tools=[{"type": "smol"}, own]) == {"math_evaluate", "detect_image", "storage_get"}
    assert lab.asked[0]["tools"][0] == own


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("math_evalute", {}, "NOT_FOUND: no tool 'math_evalute' (did you mean 'math_evaluate'?)"),
        ("storage_put", {"key": "a"}, "NOT_FOUND: no tool 'storage_put'"),
        ("math_evaluate", "{not json", "INVALID_ARGUMENT: the arguments are not a JSON object"),
        ("math_evaluate", "[1]", "INVALID_ARGUMENT: the arguments are not a JSON object"),
        ("detect_image", {"image": "/etc/passwd"}, "INVALID_ARGUMENT: image: send a data: URI"),
        ("detect_image", {"image": "image:2"}, "INVALID_ARGUMENT: there is no image:2"),
    ],
)
def test_a_mistake_is_told_to_the_model_which_may_do_better(name: str, arguments: Any, told: str) -> None:
    lab = Lab(wants((name, arguments)), says("sorry"))
    content = [{"type": "image_url", "image_url": {"url": PNG}}]
    reply = lab.complete(messages=[{"role": "user", "content": content}])
    assert reply["choices"][0]["message"]["content"] == "sorry"
    assert lab.told[0].startswith(told)
    assert lab.called == []


def test_pictures_of_the_conversation_and_of_results_are_given_by_name() -> None:
    lab = Lab(
        wants(("detect_image", {"image": "image:1"})), wants(("detect_image", {"image": "image:2"})), says("")
    )
    content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PNG}}]
    lab.complete(messages=[{"role": "user", "content": content}])
    assert [bytes(arguments["image"].data) for _, arguments in lab.called] == [b"\x89PNG\r\n\x1a\n", b"drawn"]
    assert lab.told[0] == '{"objects":["cat"],"annotated":"image:2 (5 bytes of image/png)"}'
    hints = [tool["function"]["description"] for tool in lab.asked[0]["tools"]]
    assert sum("image:1" in hint for hint in hints) == 1


def test_a_function_of_the_callers_is_the_callers_to_call() -> None:
    own = {"type": "function", "function": {"name": "mine"}}
    lab = Lab(wants(("math_evaluate", {}), ("mine", {"a": 1})))
    reply = lab.complete(tools=[own, {"type": "smol"}])
    (call,) = reply["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "mine", "arguments": '{"a": 1}'}
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert lab.called == []


def test_a_model_that_never_ends_is_asked_for_an_answer_and_then_cut() -> None:
    lab = Lab(wants(("math_evaluate", {"expression": "1"})), rounds=3)
    reply = lab.complete()
    assert len(lab.called) == 3
    assert [body.get("tool_choice") for body in lab.asked] == [None, "auto", "auto", "none"]
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": ""}


def test_calls_are_counted_and_what_is_beyond_is_not_made() -> None:
    lab = Lab(wants(*[("math_evaluate", {})] * 5), says(""), calls=2)
    lab.complete()
    assert len(lab.called) == 2
    assert lab.told[2].startswith("RESOURCE_EXHAUSTED: no more calls")


def test_a_call_that_is_demanded_is_demanded_once() -> None:
    lab = Lab(wants(("math_evaluate", {})), says("ok"))
    lab.complete(tool_choice="required")
    assert [body["tool_choice"] for body in lab.asked] == ["required", "auto"]


def test_a_long_result_is_cut_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(self: Lab, operation: str, arguments: Any, seconds: float) -> Json:
        return "x" * (2 * LARGEST_RESULT)

    monkeypatch.setattr(Lab, "call", call)
    lab = Lab(wants(("math_evaluate", {})), says(""))
    lab.complete()
    assert len(lab.told[0]) < LARGEST_RESULT + 100
    assert "ask for less" in lab.told[0]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "far",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}  # fmt: skip


def test_a_stream_is_one_answer_whose_calls_of_ours_are_not_seen() -> None:
    part = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "math_evaluate", "arguments": ""}}
    ]
    more = [{"index": 0, "function": {"arguments": '{"expression"'}}]
    last = [{"index": 0, "function": {"arguments": ': "1+1"}'}}]
    usage = {"id": "c", "choices": [], "usage": {"total_tokens": 5}}
    lab = Lab(
        {"chunks": [chunk({"role": "assistant", "content": "Let me see. "}), chunk({"tool_calls": part}),
                    chunk({"tool_calls": more}), chunk({"tool_calls": last}), chunk({}, "tool_calls"), usage]},
        {"chunks": [{**chunk({"role": "assistant"}), "id": "other"}, chunk({"content": "It is "}),
                    chunk({"content": "3."}), chunk({}, "stop"), usage]},
    )  # fmt: skip
    chunks = lab.stream()
    assert lab.called == [("math.evaluate", {"expression": "1+1"})]
    texts = [each["choices"][0]["delta"].get("content") for each in chunks if each["choices"]]
    assert texts == ["Let me see. ", "It is ", "3.", None]
    assert {each["id"] for each in chunks} == {"c"}
    assert not any("tool_calls" in each["choices"][0]["delta"] for each in chunks if each["choices"])
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["smol_calls"][0]["operation"] == "math.evaluate"
    assert chunks[-1]["usage"] == {"total_tokens": 10}


def test_a_stream_hands_calls_of_the_callers_functions_over_whole() -> None:
    part = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "mine", "arguments": "{}"}}]
    own = {"type": "function", "function": {"name": "mine"}}
    lab = Lab({"chunks": [chunk({"role": "assistant", "tool_calls": part}), chunk({}, "tool_calls")]})
    chunks = lab.stream(tools=[{"type": "smol"}, own])
    assert chunks[1]["choices"][0]["delta"]["tool_calls"] == part
    assert chunks[2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"n": 2}, "n must be 1"),
        ({"messages": "hi"}, "messages must be a list"),
        ({"tools": [{"type": "smol", "operations": "math.*"}]}, "must be a list of patterns"),
        ({"tools": [{"type": "smol", "operations": [1]}]}, "must be a list of patterns"),
    ],
)
def test_a_request_that_can_not_be_served_is_refused(request_: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refusal, match=problem):
        Lab(says("")).agent(**request_)


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b'"x"'])
def test_a_provider_that_answers_nonsense_is_named(reply: bytes) -> None:
    async def ask(body: bytes) -> bytes:
        return reply

    with pytest.raises(Refusal, match="not JSON"):
        asyncio.run(Lab(says("")).agent().complete(ask))


@pytest.mark.parametrize(
    ("tools", "asked"),
    [
        ([{"type": "smol"}], True),
        ([{"type": "function"}], False),
        (None, False),
        ("smol", False),
        ([["smol"]], False),
    ],
)
def test_only_a_tool_of_our_type_asks_for_operations(tools: Any, asked: bool) -> None:
    assert asks_for_tools(tools) is asked
