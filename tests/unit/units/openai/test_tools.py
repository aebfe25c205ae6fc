"""Tools chosen and filled by rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import Ask, Choice, Tool, Turn, pieces
from smol.units.openai.tools import check_schema, choose, fill

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        "required": ["city"],
    },
)
ADD = Tool(
    name="add",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)


def asked(text: str, *tools: Tool, **options: Any) -> list[tuple[str, Any]]:
    ask = Ask(turns=[Turn(role="user", text=text)], tools=list(tools), **options)
    return [(call.name, json.loads(call.arguments)) for call in choose(ask, text)]


def test_a_tool_is_called_when_its_name_is_meant() -> None:
    assert asked("What is the weather in Paris?", WEATHER, ADD) == [("get_weather", {"city": "Paris"})]
    assert asked("Please add 3 and 4", WEATHER, ADD) == [("add", {"a": 3, "b": 4})]
    assert asked("weather in New York in fahrenheit", WEATHER)[0][1] == {"city": "New York", "unit": "fahrenheit"}
    assert asked("Tell me a story", WEATHER, ADD) == []


def test_the_choice_of_the_caller_holds() -> None:
    assert asked("Tell me a story", WEATHER, ADD, choice=Choice("required", "add"))[0][0] == "add"
    assert len(asked("Tell me a story", WEATHER, ADD, choice=Choice("required"))) == 1
    assert asked("Please add 3 and 4", ADD, choice=Choice("none")) == []


def test_parallel_calls_have_ids_of_their_own_and_can_be_switched_off() -> None:
    text = "Add 1 and 2 and tell the weather in Rome"
    ask = Ask(turns=[], tools=[ADD, WEATHER])
    calls = choose(ask, text)
    assert {call.name for call in calls} == {"add", "get_weather"}
    assert len({call.id for call in calls}) == 2
    assert len(asked(text, ADD, WEATHER, parallel=False)) == 1


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer", "maximum": 10}, "there are 12", 10),
        ({"type": "number"}, "it is 2.5 m", 2.5),
        ({"enum": ["low", "high"]}, "a High mountain", "high"),
        ({"const": 7}, "", 7),
        ({"type": ["string", "null"]}, 'say "hi"', "hi"),
        ({"type": "array", "items": {"type": "integer"}}, "1, 2 and 3", [1, 2, 3]),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "", True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, "5", 5),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "", [0, 0]),
    ],
)
def test_a_value_fits_its_schema(schema: Any, text: str, value: Any) -> None:
    assert fill(schema, text) == value


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
    }
    assert isinstance(fill(schema, "x"), dict)


@pytest.mark.parametrize(
    "schema", [{"type": "string", "pattern": "a+"}, {"not": {}}, {"items": {"oneOf": []}}, "text"]
)
def test_a_keyword_that_can_not_be_honoured_is_refused(schema: Any) -> None:
    with pytest.raises(Refusal) as caught:
        check_schema(schema, "response_format.json_schema.schema")
    assert caught.value.status == 400


@pytest.mark.parametrize("text", ["plain words, and signs!", "日本語 🎉👩‍👩‍👧 ümlaut", "  spaces\n\nlines  ", ""])
def test_pieces_add_up_to_their_text_and_split_no_character(text: str) -> None:
    assert "".join(pieces(text)) == text
    for piece in pieces(text):
        piece.encode("utf-8")
