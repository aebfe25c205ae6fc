"""What each operation does with SymPy. Runs in a process that its deadline ends; equations are `solving`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Literal, TypeAlias

import msgspec
import sympy as sp

from smol.errors import InvalidArgument, Unimplemented
from smol.units.algebra.answers import Form, Solutions
from smol.units.algebra.printing import form_of
from smol.units.algebra.solving import solve
from smol.units.algebra.translation import Translator
from smol.units.math.syntax import Expression

__all__ = ["perform", "warm_up"]

Side: TypeAlias = Literal["both", "left", "right"]
_DIRECTIONS = {"both": "+-", "left": "-", "right": "+"}
_OPEN = (sp.Integral, sp.Sum, sp.Limit, sp.Derivative, sp.Subs)


def warm_up() -> None:
    """Let SymPy build the tables that it builds on first use, for every computation to inherit."""
    x = sp.Symbol("x", complex=True)
    sp.integrate(sp.exp(-(x**2)) * sp.cos(x), (x, 0, sp.oo))
    sp.integrate(1 / (x**3 + 1), x)
    sp.solveset(sp.sin(x) - 1, x)
    sp.solve([x**2 - 2], [x], dict=True)
    sp.limit(sp.sin(x) / x, x, 0)
    sp.simplify(sp.sin(x) ** 2 + sp.cos(x) ** 2)
    sp.factor(x**4 - 1)
    sp.summation(1 / x**2, (x, 1, sp.oo))
    form_of(sp.sqrt(2) * sp.pi, 20)


def perform(
    name: str, assume: Mapping[str, str], precision: int, arguments: Mapping[str, Any]
) -> Form | Solutions:
    """What the operation `name` answers. Raises SmolError.

    assume: what is known of variables. arguments: those of the function of this module that does it.
    """
    try:
        return _WORK[name](t=Translator(assume), precision=precision, **arguments)
    except NotImplementedError as error:
        raise Unimplemented(f"no way to do this is known: {str(error)[:200]}") from None
    except (sp.PoleError, sp.PolynomialError, sp.polys.polyerrors.CoercionFailed) as error:
        raise InvalidArgument(f"this can't be done with this expression: {str(error)[:200]}") from None


def simplify(node: Expression, t: Translator, precision: int) -> Form:
    return form_of(sp.simplify(t.expression(node)), precision)


def expand(node: Expression, t: Translator, precision: int) -> Form:
    return form_of(sp.expand(t.number(node)), precision)


def factor(node: Expression, t: Translator, precision: int, over: Sequence[Expression]) -> Form:
    """over: numbers by which the rationals are extended."""
    value = t.number(node)
    if value.is_Integer and not over:
        return _factored_integer(int(value), precision)
    extension = [t.number(number) for number in over]
    if any(not number.is_algebraic for number in extension):
        raise InvalidArgument("factors are sought over algebraic numbers, such as i and sqrt(2)")
    return form_of(sp.factor(value, extension=extension) if extension else sp.factor(value), precision)


def _factored_integer(value: int, precision: int) -> Form:
    form = form_of(sp.Integer(value), precision)
    powers = [(str(prime), str(power)) for prime, power in sorted(sp.factorint(value).items())]
    if len(powers) < 2 and all(power == "1" for _, power in powers):
        return form
    exact = "*".join(prime if power == "1" else f"{prime}^{power}" for prime, power in powers)
    latex = r" \cdot ".join(prime if power == "1" else f"{prime}^{{{power}}}" for prime, power in powers)
    return msgspec.structs.replace(form, exact=exact, latex=latex)


def differentiate(node: Expression, t: Translator, precision: int, variable: str | None, order: int) -> Form:
    value = t.number(node)
    return _closed(sp.diff(value, _variable(t, value, variable), order), "derivative", precision)


def integrate(
    node: Expression,
    t: Translator,
    precision: int,
    variable: str | None,
    lower: Expression | None,
    upper: Expression | None,
    patience_seconds: float,
) -> Form:
    """Between the bounds, by quadrature where no closed form is found; without bounds an antiderivative.

    patience_seconds: how long to look for a closed form where quadrature can answer instead.
    """
    if (lower is None) is not (upper is None):
        raise InvalidArgument("a definite integral needs both bounds, lower and upper")
    value = t.number(node)
    x = _variable(t, value, variable)
    if lower is None or upper is None:
        return _closed(sp.integrate(value, x), "integral", precision)
    bounds = (x, t.number(lower), t.number(upper))
    question = sp.Integral(value, bounds)
    if question.free_symbols:
        return _closed(sp.integrate(value, bounds), "integral", precision)
    with _patience(patience_seconds) as is_over:
        found = sp.integrate(value, bounds)
    return _closed(question if is_over() else found, "integral", precision, question)


class _OverError(BaseException):
    """No Exception, since SymPy catches those."""


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[Callable[[], bool]]:
    """Leave the block after `seconds`. What it gives says afterwards whether that happened."""
    over = False

    def give_up(number: int, frame: FrameType | None) -> None:
        raise _OverError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield lambda: over
    except _OverError:
        over = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit(
    node: Expression, t: Translator, precision: int, variable: str | None, at: Expression, side: Side
) -> Form:
    value, point = t.number(node), t.number(at)
    x = _variable(t, value, variable)
    try:
        direction = "+-" if point.is_infinite else _DIRECTIONS[side]
        found = sp.limit(value, x, point, direction)
    except ValueError:
        raise InvalidArgument(
            "there is no limit: from the left and from the right it differs; ask for one side"
        ) from None
    if isinstance(found, sp.AccumBounds):
        raise InvalidArgument(f"there is no limit: the values stay between {found.min} and {found.max}")
    return _closed(found, "limit", precision)


def series(
    node: Expression, t: Translator, precision: int, variable: str | None, at: Expression, order: int
) -> Form:
    value, point = t.number(node), t.number(at)
    found = sp.series(value, _variable(t, value, variable), point, order)
    return _closed(found.removeO(), "series", precision)


def total(
    node: Expression, t: Translator, precision: int, variable: str | None, first: Expression, last: Expression
) -> Form:
    value = t.number(node)
    bounds = (_variable(t, value, variable), t.number(first), t.number(last))
    found = sp.summation(value, bounds)
    return _closed(found, "sum", precision, sp.Sum(value, bounds) if found.has(sp.Sum) else None)


def _variable(t: Translator, value: Any, name: str | None) -> Any:
    if name is not None:
        return t.symbol(name)
    free = sorted(value.free_symbols, key=str)
    if len(free) == 1:
        return free[0]
    if not free:
        return t.symbol("x")
    raise InvalidArgument(f"which variable? The expression has {', '.join(map(str, free[:20]))}; name one")


def _closed(value: Any, what: str, precision: int, numeric: Any = None) -> Form:
    """The result in its forms. Raises Unimplemented when SymPy only gave the question back.

    numeric: what to compute approximately instead, if it has no variables.
    """
    if not value.has(*_OPEN):
        return form_of(value, precision)
    if numeric is None or numeric.free_symbols:
        unknown = sorted(str(symbol) for symbol in value.free_symbols)
        more = f", or knowing more of {', '.join(unknown[:5])} (assume)" if value.has(sp.Piecewise) else ""
        raise Unimplemented(f"no closed form of this {what} was found{more}")
    approximate = numeric.evalf(precision)
    if not approximate.is_number or approximate.has(*_OPEN):
        raise Unimplemented(f"neither a closed form of this {what} nor its value was found")
    return msgspec.structs.replace(form_of(approximate, precision), exact=None, latex=None)


_WORK: dict[str, Callable[..., Form | Solutions]] = {
    "simplify": simplify, "expand": expand, "factor": factor, "solve": solve, "differentiate": differentiate,
    "integrate": integrate, "limit": limit, "series": series, "sum": total,
}  # fmt: skip
