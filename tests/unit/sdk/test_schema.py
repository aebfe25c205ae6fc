from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import msgspec
import pytest

from smol.errors import InvalidArgument
from smol.sdk import Attachment, Context, Unit, operation
from smol.sdk.schema import Operation, describe, operations_of, parse_docstring


class Box(msgspec.Struct, frozen=True):
    """Corners in pixels."""

    left: int
    right: int
    mask: Attachment | None = None


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **arguments: Any) -> Any:
        return await function(*args, **arguments)

    return wrapper


class Draw(Unit):
    """Draws things.

    Slowly.
    """

    @operation(idempotent=True)
    async def line(
        self, context: Context, length: Annotated[int, msgspec.Meta(ge=1)], colour: str = "red", note: str = ""
    ) -> str:
        """Draw a line
        of some length.

        It is straight.

        length: how long, in pixels;
            at least one.
        colour: a name.

        warning: not a parameter.
        """
        return colour * length

    @operation(read_only=True)
    def boxes(
        self, image: Attachment, boxes: list[Box], options: dict[str, Any] | None = None
    ) -> list[Attachment]:
        """Draw boxes."""
        return []

    @operation(destructive=True)
    async def dots(self, count: int = 3) -> AsyncIterator[Box]:
        """Draw dots."""
        for number in range(count):
            yield Box(number, number)

    @logged
    @operation()
    async def wrapped(self, size: int) -> None:
        """Draw through a decorator."""

    def not_an_operation(self, anything: object) -> None: ...


@pytest.fixture
def operations() -> dict[str, Operation]:
    return operations_of(Draw(), "draw")


def decode(operation: Operation, text: str, *attachments: Attachment) -> dict[str, Any]:
    return operation.decode(msgspec.Raw(text.encode()), attachments)


def test_only_marked_methods_are_operations(operations: dict[str, Operation]) -> None:
    assert set(operations) == {"line", "boxes", "dots", "wrapped"}


def test_the_schema_follows_from_the_annotations_and_the_docstring(operations: dict[str, Operation]) -> None:
    assert operations["line"].describe(schemas=True).input == {
        "title": "Input",
        "type": "object",
        "properties": {
            "length": {"type": "integer", "minimum": 1, "description": "how long, in pixels; at least one."},
            "colour": {"type": "string", "default": "red", "description": "a name."},
            "note": {"type": "string", "default": ""},
        },
        "required": ["length"],
        "additionalProperties": False,
    }
    assert operations["line"].describe(schemas=True).output == {"type": "string"}


def test_an_attachment_is_marked_in_the_schema(operations: dict[str, Operation]) -> None:
    schema = operations["boxes"].describe(schemas=True).input
    assert schema["properties"]["image"]["x-smol-attachment"] is True
    assert schema["$defs"]["Box"]["properties"]["mask"]["anyOf"][0]["x-smol-attachment"] is True
    assert operations["boxes"].describe(schemas=True).output["items"]["x-smol-attachment"] is True


def test_the_output_of_a_stream_is_one_item(operations: dict[str, Operation]) -> None:
    description = operations["dots"].describe(schemas=True)
    assert description.streaming
    assert description.output["title"] == "Box"
    assert description.output["properties"]["left"] == {"type": "integer"}


def test_flags_are_told_and_read_only_implies_idempotent(operations: dict[str, Operation]) -> None:
    flags = {
        name: (one.flags.idempotent, one.flags.read_only, one.flags.destructive)
        for name, one in operations.items()
    }
    assert flags == {
        "line": (True, False, False),
        "boxes": (True, True, False),
        "dots": (False, False, True),
        "wrapped": (False, False, False),
    }


def test_what_runs_in_a_thread_follows_from_how_it_is_defined(operations: dict[str, Operation]) -> None:
    assert {name for name, one in operations.items() if one.threaded} == {"boxes"}


def test_the_context_is_injected_not_asked_for(operations: dict[str, Operation]) -> None:
    assert operations["line"].context_parameter == "context"
    assert operations["boxes"].context_parameter is None
    assert "context" not in operations["line"].describe(schemas=True).input["properties"]


def test_a_decorated_operation_is_called_through_its_decorator(operations: dict[str, Operation]) -> None:
    wrapped = operations["wrapped"]
    assert decode(wrapped, '{"size":1}') == {"size": 1}
    assert asyncio.run(wrapped.method(size=1)) is None


def test_a_unit_describes_itself_by_the_first_line_of_its_docstring(operations: dict[str, Operation]) -> None:
    description = describe(Draw(), "draw", "3", operations.values(), schemas=False)
    assert (description.name, description.version, description.summary) == ("draw", "3", "Draws things.")
    assert [one.name for one in description.operations] == list(operations)


def test_a_docstring_has_a_summary_a_description_and_parameters(operations: dict[str, Operation]) -> None:
    description = operations["line"].describe(schemas=True)
    assert description.summary == "Draw a line of some length."
    assert description.description == "It is straight.\n\n\nwarning: not a parameter."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", "", {})),
        ("One line.", ("One line.", "", {})),
        ("Sum.\n\na: first\nb: second", ("Sum.", "", {"a": "first", "b": "second"})),
        ("Sum.\n\na: first\n  and more\n\nRest.", ("Sum.", "Rest.", {"a": "first and more"})),
        ("Sum.\n\nc: no parameter", ("Sum.", "c: no parameter", {})),
        ("Sum.\n\na:no space", ("Sum.", "a:no space", {})),
    ],
)
def test_docstrings_are_parsed(text: str, expected: tuple[str, str, dict[str, str]]) -> None:
    assert parse_docstring(text, {"a", "b"}) == expected


def test_arguments_are_decoded_with_their_defaults(operations: dict[str, Operation]) -> None:
    assert decode(operations["line"], '{"length":2}') == {"length": 2, "colour": "red", "note": ""}


def test_attachments_stand_where_they_are_named(operations: dict[str, Operation]) -> None:
    image, mask = Attachment(b"i"), Attachment(b"m")
    arguments = decode(
        operations["boxes"],
        '{"image":{"$attachment":1},"boxes":[{"left":1,"right":2,"mask":{"$attachment":0}}]}', mask, image,
    )  # fmt: skip
    assert arguments == {"image": image, "boxes": [Box(1, 2, mask)], "options": None}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("line", "{}", "missing argument `length`"),
        ("line", '{"length":"2"}', "Expected `int`, got `str` in argument `length`"),
        ("line", '{"length":0}', "Expected `int` >= 1 in argument `length`"),
        ("line", '{"length":2,"color":"x"}', "unknown argument 'color' (did you mean 'colour'?); known: length, "),
        ("line", '{"length":2,"context":{}}', "unknown argument 'context'"),
        ("line", "[1]", "Expected `object`, got `array`"),
        ("line", "{", "truncated"),
        ("line", "[" * 100_000, ""),
        ("boxes", '{"image":{"$attachment":0},"boxes":[{"left":1}]}', "`right` in argument `boxes[0]`"),
        ("boxes", '{"image":{"$attachment":1},"boxes":[]}', "one of 1 attachments in argument `image`"),
        ("boxes", '{"image":{"$attachment":-1},"boxes":[]}', "in argument `image`"),
        ("boxes", '{"image":"aGk=","boxes":[]}', 'expected an attachment as {"$attachment": index}'),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    operations: dict[str, Operation], name: str, arguments: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(operations[name], arguments, Attachment(b"x"))
    assert message in caught.value.message


def refused(method: Callable[..., Any]) -> str:
    kind = type("Bad", (Unit,), {"bad": operation()(method)})
    method.__name__ = "bad"
    with pytest.raises(TypeError) as caught:
        operations_of(kind(), "unit")["bad"].describe(schemas=True)
    assert str(caught.value).startswith("unit.bad: ")
    return str(caught.value)


async def _bytes(self: Any, data: bytes) -> None: ...
async def _unannotated(self: Any, data) -> None: ...  # type: ignore[no-untyped-def]
async def _no_result(self: Any, data: int): ...  # type: ignore[no-untyped-def]
async def _rest(self: Any, *data: int) -> None: ...
async def _named_rest(self: Any, **data: int) -> None: ...
async def _positional(self: Any, data: int, /) -> None: ...
async def _complex(self: Any, data: complex) -> None: ...
async def _complex_result(self: Any) -> complex:
    return 1j


async def _unknown(self: Any, data: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def _shared_default(self: Any, data: list[int] = [1]) -> None: ...  # noqa: B006
def _generator(self: Any) -> Iterator[int]:
    yield 1


async def _stream_of_nothing_known(self: Any) -> int:  # type: ignore[misc]
    yield 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (_bytes, "annotate them as Attachment"),
        (_unannotated, "parameter 'data' needs an annotation"),
        (_no_result, "the result needs an annotation"),
        (_rest, "*data has no schema"),
        (_named_rest, "*data has no schema"),
        (_positional, "'data' is positional only"),
        (_complex, "complex"),
        (_complex_result, "complex"),
        (_unknown, "can't be resolved"),
        (_shared_default, "default"),
        (_generator, "async generator"),
        (_stream_of_nothing_known, "AsyncIterator"),
    ],
)
def test_what_has_no_schema_is_refused_when_the_unit_is_described(
    method: Callable[..., Any], message: str
) -> None:
    assert message in refused(method)
