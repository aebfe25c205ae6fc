"""The calculator's operation: what is cheap runs at once, the rest in a thread that is metered."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import msgspec

from smol.errors import InvalidArgument, ResourceExhausted
from smol.sdk import Context, Unit, operation
from smol.units.math.arithmetic import Arithmetic
from smol.units.math.evaluator import Evaluator
from smol.units.math.formatting import decimal_text, exact_text, latex_text, type_name
from smol.units.math.limits import Meter, TooHeavyError
from smol.units.math.parser import parse, parse_expression
from smol.units.math.syntax import Expression, Statement

__all__ = ["Evaluation", "Math"]

_VARIABLE = re.compile(r"[^\W\d]\w{0,63}")


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What an expression is worth.

    exact: the value without rounding; null when it is known only approximately.
    decimal: the value to the precision asked for.
    type: integer, rational, real, complex, boolean, quantity, vector or matrix.
    latex: the exact form in LaTeX, where there is one.
    """

    exact: str | None
    decimal: str
    type: str
    latex: str | None


class Math(Unit):
    """Exact and numeric mathematics."""

    @operation(read_only=True)
    async def evaluate(
        self,
        expression: str,
        context: Context,
        precision: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50,
        variables: dict[str, str] | None = None,
    ) -> Evaluation:
        """Evaluate an expression, such as 2/3 + 1e-30, 15% of 240, 3 ft + 2 cm to m or f(x) = x^2; f(3).

        Whole numbers, fractions and decimals are exact; what is not is computed to the precision asked for.

        expression: arithmetic, functions, constants, units of measure, vectors, matrices, statistics;
        several statements are separated by semicolons, and the last one is answered.
        precision: significant decimal digits of the decimal form.
        variables: expressions by name, for the expression to use.
        """
        statements = parse(expression)
        given = {_checked_name(name): parse_expression(text) for name, text in (variables or {}).items()}
        try:
            return _evaluate(statements, given, precision, Meter(inline=True))
        except TooHeavyError:
            meter = Meter(inline=False, seconds=context.deadline_seconds(), context=context)
            return await asyncio.to_thread(_evaluate, statements, given, precision, meter)


def _evaluate(
    statements: list[Statement], given: dict[str, Expression], precision: int, meter: Meter
) -> Evaluation:
    arithmetic = Arithmetic(meter, precision)
    evaluator = Evaluator(arithmetic, {})
    with meter:
        try:
            for name, node in given.items():
                evaluator.variables[name] = evaluator.value(node)
            value = evaluator.run(statements)
            return Evaluation(
                exact=exact_text(arithmetic, value),
                decimal=decimal_text(arithmetic, value),
                type=type_name(value),
                latex=latex_text(arithmetic, value),
            )
        except RecursionError:
            raise InvalidArgument("the expression is nested too deeply to evaluate") from None
        except MemoryError:
            raise ResourceExhausted("the expression needs too much memory") from None


def _checked_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise InvalidArgument(f"{name[:80]!r} is not a variable's name: letters, digits and _, at most 64")
    return name
