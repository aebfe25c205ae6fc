"""The loop of a provider's model with our operations as its tools: the same on every wire, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.calling import LARGEST_RESULT, Calls
from smol.units.openai.agent.dialect import asks_for_tools
from tests.unit.units.openai.agent.wires import PNG, ChatLab, Lab, MessagesLab, ResponsesLab

WIRES = [ChatLab, ResponsesLab, MessagesLab]
every_wire = pytest.mark.parametrize("wire", WIRES, ids=["chat", "responses", "messages"])
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
CUT = {ChatLab: "length", ResponsesLab: "incomplete", MessagesLab: "max_tokens"}
TO_CALL = {ChatLab: "tool_calls", ResponsesLab: "completed", MessagesLab: "tool_use"}


def names(body: dict[str, Any]) -> set[str]:
    return {(tool.get("function") or tool)["name"] for tool in body.get("tools", ())}


def choices(lab: Lab) -> list[Any]:
    """How calling is asked for in each round; Anthropic's wire has an object for it."""
    found = [body.get("tool_choice") for body in lab.asked]
    return [choice["type"] if isinstance(choice, dict) else choice for choice in found]


@every_wire
@both_ways
def test_a_model_calls_what_it_needs_and_then_answers(wire: type[Lab], streamed: bool) -> None:
    two = [("math_evaluate", {"expression": "1+1"}), ("math_evaluate", {"expression": "2"})]
    lab = wire(wire.says("", *two), wire.says("", ("storage_get", {"key": "a"})), wire.says("done"))
    answer = lab.answer(streamed, temperature=0.5)
    text, calls, reason = wire.seen(answer)
    assert (text, calls) == ("done", [])
    assert reason in ("stop", "completed", "end_turn")
    assert [operation for operation, _ in lab.called] == ["math.evaluate", "math.evaluate", "storage.get"]
    assert lab.called[0][1] == {"expression": "1+1"}
    assert [entry["operation"] for entry in answer["smol_calls"]] == [each for each, _ in lab.called]
    assert answer["smol_calls"][2]["error"]["code"] == "NOT_FOUND"
    assert lab.told == ['{"exact":"3"}', '{"exact":"1"}', "NOT_FOUND: there is no such key"]
    assert all(body["temperature"] == 0.5 for body in lab.asked)
    assert choices(lab) == [None, "auto", "auto"]


@every_wire
@both_ways
def test_the_usage_is_that_of_all_rounds(wire: type[Lab], streamed: bool) -> None:
    lab = wire(wire.says("", ("math_evaluate", {})), wire.says("done"))
    usage = lab.answer(streamed)["usage"]
    counted = {key: value for key, value in usage.items() if isinstance(value, int)}
    assert (
        counted
        == {
            ChatLab: {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24},
            ResponsesLab: {"input_tokens": 20, "output_tokens": 4, "total_tokens": 24},
            MessagesLab: {"input_tokens": 20, "output_tokens": 4, "cache_read_input_tokens": 2},
        }[wire]
    )
    inner = [value for value in usage.values() if isinstance(value, dict)]
    assert all(number == 2 for each in inner for number in each.values())


@every_wire
def test_what_only_reads_is_offered_and_more_only_where_it_is_allowed(wire: type[Lab]) -> None:
    def offered(lab: Lab, **request: Any) -> set[str]:
        lab.complete(**request)
        return names(lab.asked[0])

    assert offered(wire(wire.says("a"))) == {"math_evaluate", "detect_image", "storage_get"}
    assert "storage_put" in offered(wire(wire.says("a"), allow=("storage.*",)))
    assert offered(wire(wire.says("a"), deny=("*",))) == set()
    assert offered(wire(wire.says("a"), key=("math.*",))) == {"math_evaluate"}
    narrowed = [{"type": "smol", "operations": ["math.*"]}]
    assert offered(wire(wire.says("a")), tools=narrowed) == {"math_evaluate"}
    # A function of the caller's own hides ours of that name.
    own = wire.function("math_evaluate")
    lab = wire(wire.says("a"))
    assert offered(lab, tools=[{"type": "smol"}, own]) == {"math_evaluate", "detect_image", "storage_get"}
    assert lab.asked[0]["tools"][0] == own


@every_wire
@both_ways
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
def test_a_mistake_is_told_to_the_model_which_may_do_better(
    wire: type[Lab], streamed: bool, name: str, arguments: Any, told: str
) -> None:
    lab = wire(wire.says("", (name, arguments)), wire.says("sorry"))
    assert wire.seen(lab.answer(streamed, **wire.picture(PNG)))[0] == "sorry"
    assert lab.told[0].startswith(told)
    assert lab.called == []


@every_wire
@both_ways
def test_an_operation_that_the_key_does_not_cover_is_not_called(wire: type[Lab], streamed: bool) -> None:
    lab = wire(wire.says("", ("storage_get", {"key": "a"})), wire.says("sorry"), key=("math.*",))
    answer = lab.answer(streamed)
    assert lab.told == ["NOT_FOUND: no tool 'storage_get'"]
    assert answer["smol_calls"][0]["error"]["code"] == "NOT_FOUND"
    assert lab.called == []


@every_wire
@both_ways
def test_pictures_of_the_conversation_and_of_results_are_given_by_name(wire: type[Lab], streamed: bool) -> None:
    first, second = ({"image": "image:1"}, {"image": "image:2"})
    lab = wire(wire.says("", ("detect_image", first)), wire.says("", ("detect_image", second)), wire.says("a"))
    lab.answer(streamed, **wire.picture(PNG))
    assert [bytes(arguments["image"].data) for _, arguments in lab.called] == [b"\x89PNG\r\n\x1a\n", b"drawn"]
    assert lab.told[0] == '{"objects":["cat"],"annotated":"image:2 (5 bytes of image/png)"}'
    hints = [(tool.get("function") or tool)["description"] for tool in lab.asked[0]["tools"]]
    assert sum("image:1" in hint for hint in hints) == 1


@every_wire
@both_ways
def test_a_function_of_the_callers_is_the_callers_to_call(wire: type[Lab], streamed: bool) -> None:
    lab = wire(wire.says("I see. ", ("math_evaluate", {}), ("mine", {"a": 1})))
    answer = lab.answer(streamed, tools=[wire.function("mine"), {"type": "smol"}])
    assert wire.seen(answer) == ("I see. ", ["mine"], TO_CALL[wire])
    assert '"a": 1' in str(answer).replace("'", '"').replace("\\", "")
    assert lab.called == []


@every_wire
@both_ways
def test_the_caller_is_asked_after_calls_of_ours_too(wire: type[Lab], streamed: bool) -> None:
    lab = wire(wire.says("", ("math_evaluate", {})), wire.says("", ("mine", {})))
    answer = lab.answer(streamed, tools=[wire.function("mine"), {"type": "smol"}])
    assert wire.seen(answer)[1:] == (["mine"], TO_CALL[wire])
    assert [entry["operation"] for entry in answer["smol_calls"]] == ["math.evaluate"]


@every_wire
@both_ways
def test_a_model_that_never_ends_is_asked_for_an_answer_and_then_cut(wire: type[Lab], streamed: bool) -> None:
    lab = wire(wire.says("", ("math_evaluate", {"expression": "1"})), rounds=3)
    answer = lab.answer(streamed)
    assert len(lab.called) == 3
    assert choices(lab) == [None, "auto", "auto", "none"]
    assert wire.seen(answer) == ("", [], CUT[wire])


@every_wire
@both_ways
def test_the_last_round_is_told_to_answer_once_the_time_is_over(
    wire: type[Lab], streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([5.0, 0.0])
    monkeypatch.setattr(Calls, "left_seconds", lambda self: next(left))
    lab = wire(wire.says("", ("math_evaluate", {})), wire.says("done"), seconds=5.0)
    assert wire.seen(lab.answer(streamed))[0] == "done"
    assert choices(lab) == [None, "none"]


@every_wire
def test_calls_are_counted_and_what_is_beyond_is_not_made(wire: type[Lab]) -> None:
    lab = wire(wire.says("", *[("math_evaluate", {})] * 5), wire.says("a"), calls=2)
    lab.complete()
    assert len(lab.called) == 2
    assert lab.told[2].startswith("RESOURCE_EXHAUSTED: no more calls")


@every_wire
def test_a_call_that_is_demanded_is_demanded_once(wire: type[Lab]) -> None:
    demand: Any = {"type": "any"} if wire is MessagesLab else "required"
    lab = wire(wire.says("", ("math_evaluate", {})), wire.says("ok"))
    lab.complete(tool_choice=demand)
    assert choices(lab) == ["any" if wire is MessagesLab else "required", "auto"]


@every_wire
def test_a_long_result_is_cut_and_said_to_be(wire: type[Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(self: Lab, operation: str, arguments: Any, seconds: float) -> Json:
        return "x" * (2 * LARGEST_RESULT)

    monkeypatch.setattr(wire, "call", call)
    lab = wire(wire.says("", ("math_evaluate", {})), wire.says("a"))
    lab.complete()
    assert len(lab.told[0]) < LARGEST_RESULT + 100
    assert "ask for less" in lab.told[0]


@every_wire
@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"messages": 1, "input": 1}, "must be a list"),
        ({"tools": "smol"}, "tools must be a list"),
        ({"tools": [{"type": "smol", "operations": "math.*"}]}, "must be a list of patterns"),
        ({"tools": [{"type": "smol", "operations": [1]}]}, "must be a list of patterns"),
    ],
)
def test_a_request_that_can_not_be_served_is_refused(
    wire: type[Lab], request_: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Refusal, match=problem):
        wire(wire.says("a")).agent(**request_)


@every_wire
@pytest.mark.parametrize("reply", [b"<html>", b"[]", b'"x"'])
def test_a_provider_that_answers_nonsense_is_named(wire: type[Lab], reply: bytes) -> None:
    async def ask(body: bytes) -> bytes:
        return reply

    with pytest.raises(Refusal, match="not JSON"):
        asyncio.run(wire(wire.says("a")).agent().complete(ask))


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
