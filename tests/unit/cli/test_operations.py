from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from smol.cli import operations
from smol.cli.main import smol
from smol.protocol.messages import OperationDescription, UnitDescription

UNIT = UnitDescription(
    "math",
    "1",
    "",
    [
        OperationDescription(
            name="put",
            input={
                "properties": {
                    "key": {"type": "string"},
                    "value": {},
                    "ttl": {"type": "integer"},
                    "exact": {"type": "boolean", "default": False},
                    "shape": {"type": "object"},
                },
                "required": ["key"],
            },
        ),
        OperationDescription(
            name="plan",
            input={"properties": {"units": {"type": "array", "items": {"type": "string"}},
                                  "budget": {"type": "string"}}},
        ),
    ],
)  # fmt: skip


class Host:
    """Knows the unit, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def describe(self, unit: str) -> UnitDescription:
        return UNIT

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        self.asked.append((operation, arguments))
        return {}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()

    @contextlib.contextmanager
    def open_client(*, must_run: bool = False) -> Iterator[Host]:
        yield host

    monkeypatch.setattr(operations, "open_client", open_client)
    return host


def run(*words: str) -> Result:
    return CliRunner().invoke(smol, ["math", *words])


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["put", "a", "5"], {"key": "a", "value": 5}),
        (["put", "a", '{"x": [1]}'], {"key": "a", "value": {"x": [1]}}),
        (["put", "a", "hello there"], {"key": "a", "value": "hello there"}),
        (["put", "a", "5", "60"], {"key": "a", "value": 5, "ttl": 60}),
        (["put", "a", "60", "--value", "5"], {"key": "a", "value": 5, "ttl": 60}),
        (["put", "a", "5", "60", "{}", "--exact"], {"key": "a", "value": 5, "ttl": 60, "exact": True,
                                                              "shape": {}}),
        (["plan", "vision", "math"], {"units": ["vision", "math"]}),
        (["plan", "vision", "--budget", "1GiB"], {"units": ["vision"], "budget": "1GiB"}),
    ],
)  # fmt: skip
def test_arguments_are_given_by_place_or_by_name(host: Host, words: list[str], arguments: dict[str, Any]) -> None:
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert host.asked == [(f"math.{words[0]}", {"exact": False, **arguments} if words[0] == "put" else arguments)]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["put"], "Missing argument 'KEY'"),
        (["put", "a", "5", "60", "{}", "more"], "'more' is one argument too many"),
        (["put", "a", "5", "soon"], "'soon' is not a valid integer"),
        (["put", "a", "5", "60", "round"], "'round' is not JSON"),
        (["put", "a", "--valu", "5"], "No such option '--valu'"),
        (["putt", "a"], "unit 'math' has no operation 'putt' (did you mean 'put'?); it has: put, plan"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_called(host: Host, words: list[str], problem: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
    assert host.asked == []
