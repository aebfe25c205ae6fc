from __future__ import annotations

from typing import Any

import pytest

from smol.errors import InvalidArgument
from smol.protocol.messages import OperationDescription
from smol.units.executor.check import check, operations_of
from smol.units.executor.program import Limits, parse

ADD = OperationDescription(
    name="add",
    input={
        "properties": {
            "a": {"type": "integer", "minimum": 0},
            "kind": {"anyOf": [{"enum": ["x", "y"]}, {"type": "null"}]},
            "list": {"type": "array", "items": {"$ref": "#/$defs/T"}},
        },
        "required": ["a"],
        "$defs": {"T": {"type": "string"}},
    },
)
PHOTO = {"properties": {"p": {"type": "object", "x-smol-attachment": True}}, "required": ["p"]}
OPERATIONS: dict[str, Any] = {
    "lab.add": ADD,
    "lab.see": OperationDescription(name="see", input=PHOTO),
    "lab.flow": OperationDescription(name="flow", streaming=True),
    "lab.ad": "unit 'lab' has no operation 'ad'",
}


def problems(text: str, **more: Any) -> list[tuple[int, str, str]]:
    found = check(parse(text, Limits()), OPERATIONS, Limits(depth=4), **more)
    return [(problem.line, problem.path, problem.message) for problem in found]


def test_a_right_program_has_no_problems() -> None:
    text = """
steps:
  - {id: one, call: lab.add, with: {a: 1, kind: x, list: [t]}}
  - {wait: "${{ max_by(steps.one.items, &age).age }}"}
  - for_each: "${{ steps.one.items[?a > `1`] }}"
    parallelism: 2
    do:
      - {id: two, call: lab.see, with: {p: "${{ item }}"}}
      - {call: lab.add, with: {a: "${{ steps.two.n }}"}, catch: {do: [{wait: "${{ length(error.code) }}"}]}}
"""
    assert problems(text) == []
    assert operations_of(parse(text, Limits())) == ["lab.add", "lab.see"]


@pytest.mark.parametrize(
    ("step", "path", "message"),
    [
        ("{call: lab.ad}", ".call", "no operation 'ad'"),
        ("{call: lab.add}", ".call", "missing argument 'a'"),
        ("{call: lab.add, with: {a: one}}", ".with.a", "not of type integer"),
        ("{call: lab.add, with: {a: true}}", ".with.a", "not of type integer"),
        ("{call: lab.add, with: {a: -1}}", ".with.a", "below 0"),
        ("{call: lab.add, with: {a: 1, kind: z}}", ".with.kind", "'z' is not one of"),
        ("{call: lab.add, with: {a: 1, list: [1]}}", ".with.list", "not of type string"),
        ("{call: lab.add, with: {a: 1, b: 1}}", ".with.b", "unknown argument 'b'"),
        ("{call: lab.see, with: {p: photo.jpg}}", ".with.p", "attachment"),
        ("{call: lab.flow}", ".call", "say how much of it to `collect`"),
        ("{call: lab.add, with: {a: 1}, collect: {items: 1}}", ".collect", "not a stream"),
        ("{call: lab.flow, collect: {items: 99999}}", ".collect.items", "above the limit"),
        (
            "{for_each: {call: lab.add, with: {a: 1}, collect: {items: 1}}, do: []}",
            ".for_each.collect",
            "not a stream",
        ),
        ("{for_each: {call: lab.flw, collect: {items: 1}}, do: [{wait: 1}]}", ".for_each.call", "no operation"),
        (
            "{for_each: {call: lab.flow, collect: {items: 99999}}, do: [{wait: 1}]}",
            ".for_each.collect.items",
            "above",
        ),
        ("{wait: 1, collect: {items: 1}}", ".collect", "only a call"),
        ('{wait: {event: "a*b"}}', ".wait.event", "is no topic"),
        ('{wait: {event: a, where: "${{ evnt.x }}"}}', ".wait.where", "not known here"),
        ('{return: "${{ event }}"}', ".return", "known only in the `where` of a wait"),
        ('{call: lab.add, with: {a: "${{ steps.late }}"}}', ".with.a", "no step 'late'"),
        ('{call: lab.add, with: {a: "${{ item }}"}}', ".with.a", "known only in the `do`"),
        ('{call: lab.add, with: {a: "${{ stesp.x }}"}}', ".with.a", "not known here"),
        ('{call: lab.add, with: {a: "${{ input[ }}"}}', ".with.a", "not JMESPath"),
        ("{wait: 1, return: 1}", "", "exactly one of"),
        ("{if: true}", "", "exactly one of"),
        ("{for_each: [1]}", "", "for_each needs `do`"),
        ("{for_each: x, do: [{wait: 1}]}", ".for_each", "not a list"),
        ("{wait: soon}", ".wait", "not a number of seconds"),
        ("{wait: 1, retry: {}}", ".retry", "only a call"),
        ("{wait: 1, catch: {on: [NOT_FOND], do: []}}", ".catch.on", "did you mean 'NOT_FOUND'"),
        ("{program: missing}", ".program", "no program 'missing'"),
        ("{parallel: [[{return: 1}]]}", ".parallel[0][0].return", "left to chance"),
    ],
)
def test_each_mistake_is_one_problem_with_its_place(step: str, path: str, message: str) -> None:
    found = problems(f"name: x\nsteps:\n  - {step}\n  - {{id: late, wait: 1}}\n")
    assert len(found) == 1, found
    assert found[0][:2] == (3, f"steps[0]{path}")
    assert message in found[0][2]


def test_a_loop_without_a_bound_is_found() -> None:
    text = "programs: {a: [{program: b}], b: [{program: a}]}\nsteps: [{program: a}]"
    assert [message for _, _, message in problems(text)] == [
        "the program a comes back to itself: the loop has no bound",
        "the program b comes back to itself: the loop has no bound",
    ]


def test_operations_can_be_held_to_a_list() -> None:
    text = "steps: [{call: lab.add, with: {a: 1}}]"
    assert "may not be called" in problems(text, allowed=("math.*", "storage.get"))[0][2]
    assert problems(text, allowed=("lab.a*",)) == []
    waiting = (
        "steps: [{wait: {event: lab.seen}}, {wait: {event: 'lab.*'}}, {wait: {event: '*'}}, {wait: {event: 'l*'}}]"
    )
    assert [path for _, path, _ in problems(waiting, allowed=("lab.*",))] == [
        "steps[2].wait.event",
        "steps[3].wait.event",
    ]


def test_a_program_nested_too_deeply_or_too_wide_is_refused() -> None:
    text = "steps: [" + "{for_each: [1], do: [" * 5 + "{wait: 0}" + "]}" * 5 + "]"
    assert ["nested deeper than 4" in message for _, _, message in problems(text)] == [True]
    assert "above the limit of 16" in problems("steps: [{for_each: [1], parallelism: 17, do: [{wait: 0}]}]")[0][2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "line 1"),
        ("steps: []", "steps"),
        ("steps:\n  - {cal: x}", "line 2: steps.*cal"),
        ("a: &a [1]\nsteps: *a", "line 2: aliases are not allowed"),
        ("steps: 1\nsteps: 2", "line 2: the key 'steps' is there twice"),
        ("steps: !!python/object:os.system [x]", "line 1"),
        ("", "program"),
        ("[" * 100_000, "can't be read"),
    ],
)
def test_what_is_not_a_program_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse(text, Limits())
