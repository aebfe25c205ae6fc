"""SymPy's expressions to the calculator's syntax, to decimals and to LaTeX."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from smol.errors import InvalidArgument
from smol.units.algebra.answers import Form
from smol.units.algebra.translation import FUNCTIONS, is_truth
from smol.units.math.arithmetic import Arithmetic
from smol.units.math.formatting import decimal_text
from smol.units.math.limits import Meter

__all__ = ["exact_text", "form_of"]

_NAMES: dict[Any, str] = {
    make: name for name, (_, _, make) in reversed(FUNCTIONS.items()) if isinstance(make, sp.FunctionClass)
}
_NAMES |= {sp.log: "ln", sp.Min: "min", sp.Max: "max", sp.Mod: "mod", sp.ff: "permutations"}
_CONSTANTS: dict[Any, str] = {
    sp.E: "e", sp.I: "i", sp.pi: "pi", sp.GoldenRatio: "phi", sp.EulerGamma: "euler_gamma",
    sp.Catalan: "catalan_g", sp.oo: "infinity", -sp.oo: "-infinity", sp.true: "true", sp.false: "false",
}  # fmt: skip


class _UnknownError(Exception):
    """The calculator has no words for it."""


_PRINTED = (sp.Symbol, sp.Rational, sp.Add, sp.Mul, sp.Pow, sp.Rel, sp.And, sp.Or, sp.Not, sp.Piecewise)


class _Printer(StrPrinter):  # type: ignore[misc]
    """A thing that is in none of the tables is refused, rather than spelled as SymPy does."""

    def _print(self, expr: Any, **settings: Any) -> str:
        if isinstance(expr, sp.Basic):
            if expr in _CONSTANTS:
                return _CONSTANTS[expr]
            if isinstance(expr, _PRINTED):
                return str(super()._print(expr, **settings))
            if isinstance(expr, (sp.Function, sp.Min, sp.Max)):
                return self._called(expr)
        raise _UnknownError

    def _called(self, expr: Any) -> str:
        if isinstance(expr, sp.log) and len(expr.args) == 2:
            return f"log({self._print(expr.args[0])}, {self._print(expr.args[1])})"
        if isinstance(expr, sp.polygamma) and expr.args[0] == 0:
            return f"digamma({self._print(expr.args[1])})"
        if isinstance(expr, sp.Heaviside):
            return f"heaviside({self._print(expr.args[0])})"
        if expr.func not in _NAMES:
            raise _UnknownError
        return f"{_NAMES[expr.func]}({', '.join(self._print(value) for value in expr.args)})"

    def _print_Relational(self, expr: Any) -> str:
        return f"{self._print(expr.lhs)} {expr.rel_op} {self._print(expr.rhs)}"

    def _print_And(self, expr: Any) -> str:
        return " and ".join(f"({self._print(value)})" for value in sorted(expr.args, key=sp.default_sort_key))

    def _print_Or(self, expr: Any) -> str:
        return " or ".join(f"({self._print(value)})" for value in sorted(expr.args, key=sp.default_sort_key))

    def _print_Not(self, expr: Any) -> str:
        return f"not ({self._print(expr.args[0])})"

    def _print_Piecewise(self, expr: Any) -> str:
        *cases, (last, always) = expr.args
        if always is not sp.true:
            raise _UnknownError
        text = self._print(last)
        for value, condition in reversed(cases):
            text = f"if({self._print(condition)}, {self._print(value)}, {text})"
        return text


def exact_text(value: Any) -> str | None:
    """In the calculator's syntax; None when it has no words for it."""
    try:
        return str(_Printer({"order": None}).doprint(value)).replace("**", "^")
    except _UnknownError:
        return None


def form_of(value: Any, precision: int) -> Form:
    """A result in its forms. Raises InvalidArgument for one that is undefined.

    precision: significant decimal digits.
    """
    unreal = not is_truth(value) and value.is_infinite and value not in (sp.oo, -sp.oo)
    if unreal or value.has(sp.nan, sp.zoo) or isinstance(value, sp.AccumBounds):
        raise InvalidArgument("the result is infinite or undefined here")
    exact = exact_text(value)
    number = not is_truth(value) and not value.free_symbols
    return Form(
        exact=exact,
        decimal=_decimal(value, precision) if number else exact if value in (sp.true, sp.false) else None,
        type=_type(value),
        latex=None if exact is None else sp.latex(value, ln_notation=True),
    )


def _type(value: Any) -> str:
    if is_truth(value):
        return "boolean"
    if value.free_symbols:
        return "expression"
    if value.is_Integer or value.is_Rational:
        return "integer" if value.is_Integer else "rational"
    if value.is_infinite:
        return "infinite"
    real = value.is_real
    if real is None:
        real = sp.im(value.evalf(20, chop=True)) == 0
    return "real" if real else "complex"


def _decimal(value: Any, precision: int) -> str | None:
    if value in (sp.oo, -sp.oo):
        return str(exact_text(value))
    a = Arithmetic(Meter(inline=False), precision)
    if value.is_Rational:
        with a.meter:
            return decimal_text(a, a.divide(int(value.p), int(value.q)))
    re, im = value.evalf(precision + 15).as_real_imag()
    if not (re.is_comparable and im.is_comparable):
        return None
    parts = [sp.Float(part, precision + 15)._mpf_ for part in (re, im)]
    with a.meter:
        return decimal_text(a, a.checked(a.mp.mpc(*[a.mp.make_mpf(part) for part in parts])))
