"""What only the dialect of responses has: items, numbered events, and conversations that the provider keeps."""

from __future__ import annotations

from typing import Any

import pytest

from smol.errors import Unavailable
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.sequels import Sequel, Sequels
from smol.units.openai.latest import MOST_KEPT
from tests.unit.units.openai.agent.wires import ResponsesLab

says = ResponsesLab.says


def test_a_round_is_given_back_with_its_reasoning_and_the_results() -> None:
    lab = ResponsesLab(says("Hm. ", ("math_evaluate", {"expression": "1"})), says("done"))
    lab.complete()
    kinds = [item["type"] for item in lab.asked[1]["input"]]
    assert kinds == ["message", "reasoning", "message", "function_call", "function_call_output"]
    assert lab.asked[1]["input"][-1] == {
        "type": "function_call_output", "call_id": "call_0", "output": '{"exact":"1"}'
    }  # fmt: skip
    assert lab.asked[0]["input"] == [{"type": "message", "role": "user", "content": "hi"}]


def test_our_functions_are_loose_for_their_schemas_have_optional_arguments() -> None:
    lab = ResponsesLab(says("done"))
    lab.complete()
    assert {tool["strict"] for tool in lab.asked[0]["tools"]} == {False}
    assert {tool["type"] for tool in lab.asked[0]["tools"]} == {"function"}


def test_the_output_is_that_of_all_rounds_but_our_calls() -> None:
    lab = ResponsesLab(says("Hm. ", ("math_evaluate", {})), says("done"))
    own = ResponsesLab.function("mine")
    answer = lab.complete(tools=[{"type": "smol"}, own], tool_choice="required")
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message", "reasoning", "message"]
    assert (answer["tools"], answer["tool_choice"]) == ([own], "required")


def test_a_stream_is_one_response_with_one_start_and_one_end() -> None:
    lab = ResponsesLab(says("Hm. ", ("math_evaluate", {})), says("", ("math_evaluate", {})), says("done"))
    events = lab.stream()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert [kinds.count(f"response.{kind}") for kind in ("created", "in_progress", "completed")] == [1, 1, 1]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert not any("function_call" in kind for kind in kinds)
    last = events[-1]["response"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(last["output"])))
    done = {event["output_index"]: event["item"] for event in events if event["type"].endswith("output_item.done")}
    assert [done[index] for index in sorted(done)] == last["output"]
    for event in events:
        if "item_id" in event:
            assert last["output"][event["output_index"]]["id"] == event["item_id"]
    for key in ("id", "created_at"):
        assert last[key] == events[0]["response"][key]


def test_a_call_of_the_callers_is_streamed_as_it_comes_past_a_hidden_one() -> None:
    lab = ResponsesLab(says("", ("math_evaluate", {}), ("mine", {"a": 1})))
    events = lab.stream(tools=[{"type": "smol"}, ResponsesLab.function("mine")])
    deltas = [event for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(event["delta"] for event in deltas) == '{"a": 1}'
    assert {event["output_index"] for event in deltas} == {1}


def test_an_item_that_waits_for_the_caller_interrupts() -> None:
    waits = {"id": "ct", "type": "custom_tool_call", "call_id": "call_9", "name": "grep", "input": "x"}
    ours = says("", ("math_evaluate", {}))
    lab = ResponsesLab({**ours, "output": [*ours["output"], waits]})
    assert lab.complete()["output"][-1] == waits
    assert lab.called == []
    # What the provider has answered itself does not.
    done = {"id": "co", "type": "custom_tool_call_output", "call_id": "call_9", "output": "x"}
    lab = ResponsesLab({**ours, "output": [*ours["output"], waits, done]}, says("done"))
    assert ResponsesLab.seen(lab.complete())[0] == "done"


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_a_response_that_is_not_whole_is_the_last(status: str) -> None:
    lab = ResponsesLab({**says("", ("math_evaluate", {})), "status": status})
    events = lab.stream()
    assert events[-1]["type"] == f"response.{status}"
    assert events[-1]["response"]["status"] == status
    assert lab.called == []


def test_a_response_that_is_cut_says_so() -> None:
    lab = ResponsesLab(says("", ("math_evaluate", {})), rounds=1)
    events = lab.stream()
    last = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_stream_without_an_end_is_a_failure() -> None:
    events = list(ResponsesLab.events(says("Hm.")))[:-1]
    with pytest.raises(Unavailable, match="broke off"):
        ResponsesLab({"events": events}).stream()


@pytest.mark.parametrize("name", ["background", "conversation"])
def test_what_needs_one_round_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match=name):
        ResponsesLab(says("")).agent(**{name: "x"})


def test_the_provider_goes_on_from_the_last_round_of_a_stream() -> None:
    lab = ResponsesLab(says("", ("math_evaluate", {})), says("done"))
    last = lab.stream()[-1]["response"]
    (sequel,) = lab.sequels
    assert (sequel.shown, sequel.answers) == (last["id"], [])
    assert sequel.last != sequel.shown


def test_a_whole_answer_has_the_id_that_the_provider_goes_on_from() -> None:
    lab = ResponsesLab(says("", ("math_evaluate", {})), says("done"))
    lab.complete()
    assert lab.sequels == []


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_that_were_not_made_are_answered_before_the_conversation_goes_on(streamed: bool) -> None:
    lab = ResponsesLab(says("", ("math_evaluate", {}), ("mine", {})))
    answer = lab.answer(streamed, tools=[{"type": "smol"}, ResponsesLab.function("mine")])
    (sequel,) = lab.sequels
    assert sequel.shown == sequel.last == answer["id"]
    assert [item["call_id"] for item in sequel.answers] == ["call_0"]


def test_a_request_goes_on_where_the_provider_is() -> None:
    sequels = Sequels()
    answer: dict[str, Any] = {"type": "function_call_output", "call_id": "c", "output": "not made"}
    sequels.keep("phone", Sequel("first", "last", [answer]))
    request = {"model": "far", "previous_response_id": "first", "input": "and?"}
    assert sequels.resumed("phone", request) == {
        "model": "far",
        "previous_response_id": "last",
        "input": [answer, {"type": "message", "role": "user", "content": "and?"}],
    }
    assert sequels.resumed("", request) is request
    assert sequels.resumed("phone", {"input": "hi"}) == {"input": "hi"}
    for number in range(MOST_KEPT):
        sequels.keep("phone", Sequel(str(number), "x", []))
    assert sequels.resumed("phone", request) is request
