"""What only the dialect of Anthropic's messages has: blocks, signed thoughts, one start and one end."""

from __future__ import annotations

from typing import Any

import pytest

from smol.errors import Unavailable
from tests.unit.units.openai.agent.wires import PNG, MessagesLab

says = MessagesLab.says


@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_is_given_back_as_it_came_with_the_results_in_one_turn(streamed: bool) -> None:
    first = says("Hm. ", ("math_evaluate", {"expression": "1"}), ("storage_get", {}))
    lab = MessagesLab(first, says("done"))
    lab.answer(streamed)
    _, assistant, user = lab.asked[1]["messages"]
    assert assistant == {"role": "assistant", "content": first["content"]}
    assert user == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_0", "content": '{"exact":"1"}'},
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "NOT_FOUND: there is no such key",
             "is_error": True},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
def test_an_input_that_is_none_is_given_back_as_an_empty_one(streamed: bool) -> None:
    lab = MessagesLab(says("", ("math_evaluate", "{not json")), says("done"))
    lab.answer(streamed)
    assert lab.asked[1]["messages"][1]["content"][-1]["input"] == {}


def test_the_blocks_are_those_of_all_rounds_but_our_calls() -> None:
    lab = MessagesLab(says("Hm. ", ("math_evaluate", {})), says("done"))
    answer = lab.complete()
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", "thinking", "text"]
    assert answer["stop_reason"] == "end_turn"


def test_a_stream_is_one_message_whose_blocks_go_on() -> None:
    lab = MessagesLab(says("Hm. ", ("math_evaluate", {})), says("", ("math_evaluate", {})), says("done"))
    events = lab.stream()
    kinds = [event["type"] for event in events]
    assert [kinds.count(f"message_{kind}") for kind in ("start", "delta", "stop")] == [1, 1, 1]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    indexes = [event["index"] for event in events if "index" in event]
    assert indexes == sorted(indexes)
    for place in ("start", "stop"):
        found = [event["index"] for event in events if event["type"] == f"content_block_{place}"]
        assert found == [0, 1, 2, 3, 4]
    assert not any("input_json_delta" in str(event) or "tool_use" in str(event) for event in events)
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["smol_calls"][0]["operation"] == "math.evaluate"


def test_a_call_of_the_callers_is_streamed_past_a_hidden_one() -> None:
    lab = MessagesLab(says("", ("math_evaluate", {}), ("mine", {"a": 1})))
    answer = lab.answer(True, tools=[{"type": "smol"}, MessagesLab.function("mine")])
    assert answer["content"][1] == {"type": "tool_use", "id": "toolu_1", "name": "mine", "input": {"a": 1}}
    assert answer["stop_reason"] == "tool_use"


def test_tools_that_the_provider_runs_itself_do_not_interrupt() -> None:
    first = says("", ("math_evaluate", {}))
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    lab = MessagesLab({**first, "content": [search, found, *first["content"]]}, says("done"))
    own = {"type": "web_search_20250305", "name": "web_search"}
    answer = lab.complete(tools=[own, {"type": "smol"}])
    assert answer["content"][:2] == [search, found]
    assert lab.asked[0]["tools"][0] == own
    assert len(lab.called) == 1


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
def test_a_message_that_is_not_whole_is_the_last(reason: str) -> None:
    lab = MessagesLab({**says("", ("math_evaluate", {})), "stop_reason": reason})
    assert lab.answer(True)["stop_reason"] == reason
    assert lab.called == []


def test_a_stream_without_an_end_is_a_failure() -> None:
    events = list(MessagesLab.events(says("Hm.")))[:-1]
    with pytest.raises(Unavailable, match="broke off"):
        MessagesLab({"events": events}).stream()


def test_calls_stay_one_at_a_time_where_the_caller_wants_that() -> None:
    lab = MessagesLab(says("", ("math_evaluate", {})), rounds=2)
    lab.complete(tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert [body["tool_choice"] for body in lab.asked[1:]] == [
        {"type": "auto", "disable_parallel_tool_use": True},
        {"type": "none"},
    ]


def test_pictures_in_results_of_tools_have_names_too() -> None:
    inner = MessagesLab.picture(PNG)["messages"][0]["content"]
    content: list[Any] = [
        {"type": "image", "source": {"type": "url", "url": "https://far.example/a.png"}},
        {"type": "tool_result", "tool_use_id": "t", "content": inner},
    ]
    lab = MessagesLab(says("", ("detect_image", {"image": "image:2"})), says("done"))
    lab.complete(messages=[{"role": "user", "content": content}])
    assert bytes(lab.called[0][1]["image"].data) == b"\x89PNG\r\n\x1a\n"


def test_citations_are_given_back() -> None:
    first = list(MessagesLab.events(says("Hm. ", ("math_evaluate", {}))))
    cited = {"type": "char_location", "cited_text": "x"}
    delta = {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": cited}}
    place = next(at for at, event in enumerate(first) if event["type"] == "content_block_stop" and event["index"])
    lab = MessagesLab({"events": [*first[:place], delta, *first[place:]]}, says("done"))
    lab.stream()
    assert lab.asked[1]["messages"][1]["content"][1] == {"type": "text", "text": "Hm. ", "citations": [cited]}
