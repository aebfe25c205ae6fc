"""What only the dialect of chats has."""

from __future__ import annotations

from typing import Any

import pytest

from smol.units.gateway.problems import Refusal
from tests.unit.units.openai.agent.wires import ChatLab


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "far",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}  # fmt: skip


def test_results_are_messages_after_the_one_that_asks() -> None:
    lab = ChatLab(ChatLab.says("", ("math_evaluate", {}), ("math_evaluate", {})), ChatLab.says("done"))
    lab.complete()
    assert [message["role"] for message in lab.asked[-1]["messages"]] == ["user", "assistant", "tool", "tool"]


def test_a_stream_is_one_answer_whose_calls_of_ours_are_not_seen() -> None:
    part = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "math_evaluate", "arguments": ""}}
    ]
    more = [{"index": 0, "function": {"arguments": '{"expression"'}}]
    last = [{"index": 0, "function": {"arguments": ': "1+1"}'}}]
    usage = {"id": "c", "choices": [], "usage": {"total_tokens": 5}}
    lab = ChatLab(
        {"events": [chunk({"role": "assistant", "content": "Let me see. "}), chunk({"tool_calls": part}),
                    chunk({"tool_calls": more}), chunk({"tool_calls": last}), chunk({}, "tool_calls"), usage]},
        {"events": [{**chunk({"role": "assistant"}), "id": "other"}, chunk({"content": "It is "}),
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
    lab = ChatLab({"events": [chunk({"role": "assistant", "tool_calls": part}), chunk({}, "tool_calls")]})
    chunks = lab.stream(tools=[{"type": "smol"}, ChatLab.function("mine")])
    assert chunks[1]["choices"][0]["delta"]["tool_calls"] == part
    assert chunks[2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_chat_that_is_cut_has_a_text_and_no_calls() -> None:
    reply = ChatLab(ChatLab.says("", ("math_evaluate", {})), rounds=1).complete()
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": ""}


def test_several_answers_at_once_are_refused() -> None:
    with pytest.raises(Refusal, match="n must be 1"):
        ChatLab(ChatLab.says("a")).agent(n=2)
