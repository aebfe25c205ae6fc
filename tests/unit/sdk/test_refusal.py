from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
import pytest

from smol.errors import InvalidArgument
from smol.sdk import Unit, operation
from smol.sdk.schema import operations_of


class Shape(enum.Enum):
    ROUND = "round"
    SQUARE = "square"


class Pen(msgspec.Struct):
    """What draws."""

    tip: Literal["fine", "broad"] = "fine"
    spare: list[Pen] = []


class Draw(Unit):
    """Draws."""

    @operation()
    async def line(
        self,
        colour: Literal["red", "blue"] = "red",
        dashes: list[Literal[1, 2] | None] | None = None,
        shape: Annotated[Shape, msgspec.Meta(description="of its ends")] = Shape.ROUND,
        pens: dict[str, Pen] | None = None,
    ) -> None:
        """Draw a line."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"colour":"bleu"}', "argument `colour` can't be 'bleu' (did you mean 'blue'?); known: red, blue"),
        ('{"dashes":[1,7]}', "argument `dashes[1]` can't be 7; known: 1, 2"),
        ('{"shape":"flat"}', "argument `shape` can't be 'flat'; known: round, square"),
        (
            '{"pens":{"mine":{"spare":[{},{"tip":"braod"}]}}}',
            "argument `pens[...].spare[1].tip` can't be 'braod' (did you mean 'broad'?); known: fine, broad",
        ),
    ],
)
def test_a_value_of_none_of_the_choices_is_told_them(arguments: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        operations_of(Draw(), "draw")["line"].decode(msgspec.Raw(arguments.encode()), [])
    assert caught.value.message == message
