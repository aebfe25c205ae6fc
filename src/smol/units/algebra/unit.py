"""The operations of algebra: parsed here, computed in a process of their own that the deadline ends."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from smol.errors import FailedPrecondition
from smol.sdk import Context, Unit, operation
from smol.units.algebra.answers import Form, Solutions
from smol.units.algebra.child import compute
from smol.units.math.parser import parse_equation, parse_expression
from smol.units.math.syntax import Expression

__all__ = ["Algebra"]

T = TypeVar("T")
_PATIENCE_SECONDS = 3.0
"""For a closed form of a definite integral, before it is computed approximately."""

Digits = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Order = Annotated[int, msgspec.Meta(ge=1, le=100)]
Equations = Annotated[list[str], msgspec.Meta(min_length=1, max_length=50)]


class Algebra(Unit):
    """Symbolic mathematics, in the syntax of math.evaluate: what it answers can be asked again."""

    def __init__(self, apart: Callable[..., Awaitable[Any]] = compute) -> None:
        """apart: does the work in a place that can be ended."""
        self._work: Any = None
        self._apart = apart

    async def provision(self, context: Context) -> None:
        """Load SymPy and its tables once, for every computation to inherit."""
        # By name: describing this unit must not load SymPy.
        self._work = importlib.import_module("smol.units.algebra.compute")
        self._work.warm_up()
        gc.collect()
        gc.freeze()

    @operation(read_only=True)
    async def simplify(
        self, expression: str, context: Context, precision: Digits = 20, assume: dict[str, str] | None = None
    ) -> Form:
        """Rewrite an expression more simply, such as sin(x)^2 + cos(x)^2.

        expression: in the syntax of math.evaluate, with variables.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, by name: complex, real, positive, negative, nonnegative, nonzero,
        integer or rational.
        """
        return await self._ask("simplify", Form, context, precision, assume, node=parse_expression(expression))

    @operation(read_only=True)
    async def expand(
        self, expression: str, context: Context, precision: Digits = 20, assume: dict[str, str] | None = None
    ) -> Form:
        """Multiply an expression out, such as (x + 1)^3.

        expression: in the syntax of math.evaluate, with variables.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        return await self._ask("expand", Form, context, precision, assume, node=parse_expression(expression))

    @operation(read_only=True)
    async def factor(
        self,
        expression: str,
        context: Context,
        over: list[str] | None = None,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Write a polynomial, a fraction of polynomials or an integer as a product.

        expression: in the syntax of math.evaluate, with variables.
        over: numbers that factors may contain besides the rationals, for example ["sqrt(2)", "i"].
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        numbers = [parse_expression(number) for number in over or ()]
        node = parse_expression(expression)
        return await self._ask("factor", Form, context, precision, assume, node=node, over=numbers)

    @operation(read_only=True)
    async def solve(
        self,
        equations: Equations,
        context: Context,
        variables: list[str] | None = None,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Solutions:
        """Solve an equation, or several together, such as x^2 = 2.

        Infinitely many solutions of one equation are given as families: sin(x) = 0 has pi*n for any integer n.

        equations: with = or ==; without, the expression is set to 0.
        variables: those to solve for; by default all there are.
        precision: significant decimal digits of the decimal forms.
        assume: what is known of variables, as in simplify; {"x": "real"} asks for real solutions only.
        """
        nodes = [parse_equation(equation) for equation in equations]
        return await self._ask("solve", Solutions, context, precision, assume, nodes=nodes, names=variables or [])

    @operation(read_only=True)
    async def differentiate(
        self,
        expression: str,
        context: Context,
        variable: str | None = None,
        order: Order = 1,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Differentiate an expression.

        expression: in the syntax of math.evaluate, with variables.
        variable: by default the only one there is.
        order: how many times.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        node = parse_expression(expression)
        return await self._ask(
            "differentiate", Form, context, precision, assume, node=node, variable=variable, order=order
        )

    @operation(read_only=True)
    async def integrate(
        self,
        expression: str,
        context: Context,
        variable: str | None = None,
        lower: str | None = None,
        upper: str | None = None,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Integrate an expression: an antiderivative, or between bounds.

        Between bounds of numbers without a closed form, the value is computed approximately: exact is null.

        expression: in the syntax of math.evaluate, with variables.
        variable: by default the only one there is.
        lower: an expression such as 0 or -infinity; given with upper.
        upper: an expression such as pi or infinity; given with lower.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        bounds = {"lower": _optional(lower), "upper": _optional(upper)}
        node = parse_expression(expression)
        left = context.deadline_seconds()
        patience = _PATIENCE_SECONDS if left is None else min(left / 3, _PATIENCE_SECONDS)
        return await self._ask(
            "integrate",
            Form,
            context,
            precision,
            assume,
            node=node,
            variable=variable,
            patience_seconds=patience,
            **bounds,
        )

    @operation(read_only=True)
    async def limit(
        self,
        expression: str,
        context: Context,
        at: str = "0",
        variable: str | None = None,
        side: Literal["both", "left", "right"] = "both",
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Find what an expression tends to as its variable tends to a point.

        expression: in the syntax of math.evaluate, with variables.
        at: the point, for example 0, pi or infinity.
        variable: by default the only one there is.
        side: from where the variable tends to the point.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        node, point = parse_expression(expression), parse_expression(at)
        return await self._ask(
            "limit", Form, context, precision, assume, node=node, variable=variable, at=point, side=side
        )

    @operation(read_only=True)
    async def series(
        self,
        expression: str,
        context: Context,
        at: str = "0",
        variable: str | None = None,
        order: Order = 6,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Expand an expression into a power series around a point, without its remainder.

        expression: in the syntax of math.evaluate, with variables.
        at: the point, for example 0 or pi.
        variable: by default the only one there is.
        order: terms below this power are given.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        node, point = parse_expression(expression), parse_expression(at)
        return await self._ask(
            "series", Form, context, precision, assume, node=node, variable=variable, at=point, order=order
        )

    @operation(read_only=True)
    async def sum(
        self,
        expression: str,
        context: Context,
        first: str = "1",
        last: str = "n",
        variable: str | None = None,
        precision: Digits = 20,
        assume: dict[str, str] | None = None,
    ) -> Form:
        """Add an expression up over integers, such as 1/k^2 from 1 to infinity.

        expression: in the syntax of math.evaluate, with variables.
        first: the first value of the variable.
        last: the last value of the variable, for example n or infinity.
        variable: the one that runs; by default the only one there is.
        precision: significant decimal digits of the decimal form.
        assume: what is known of variables, as in simplify.
        """
        bounds = {"first": parse_expression(first), "last": parse_expression(last)}
        node = parse_expression(expression)
        return await self._ask("sum", Form, context, precision, assume, node=node, variable=variable, **bounds)

    async def _ask(
        self,
        name: str,
        kind: type[T],
        context: Context,
        precision: int,
        assume: dict[str, str] | None,
        **arguments: Any,
    ) -> T:
        if self._work is None:
            raise FailedPrecondition("algebra is used before it was provisioned")
        work = partial(self._work.perform, name, assume or {}, precision, arguments)
        answer: T = await self._apart(work, kind, context.deadline_seconds())
        return answer


def _optional(text: str | None) -> Expression | None:
    return None if text is None else parse_expression(text)
