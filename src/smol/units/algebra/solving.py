"""Equations: all solutions where SymPy can tell that they are all, families included; else those it finds.

One equation in one variable goes to `solveset`, whose answers are sets; what can't be listed, and systems,
go to `solve`; one equation without a known method is searched for real roots numerically.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import mpmath
import sympy as sp

from smol.errors import InvalidArgument, Unimplemented
from smol.units.algebra.answers import Form, Solution, Solutions
from smol.units.algebra.printing import form_of
from smol.units.algebra.translation import Translator
from smol.units.math.syntax import Binary, Expression

__all__ = ["solve"]

_MAX_SOLUTIONS = 1000
_GRID = 400
"""Points between which a numeric search looks for changes of sign; denser near 0, up to ±1000."""


def solve(nodes: Sequence[Expression], t: Translator, precision: int, names: Sequence[str]) -> Solutions:
    """Solutions of all equations together. An expression without `=` is set to 0.

    names: variables to solve for; empty for all that there are.
    """
    equations = [_difference(t, node) for node in nodes]
    met = t.variables
    free = sorted({symbol for equation in equations for symbol in equation.free_symbols}, key=str)
    symbols = [t.symbol(name) for name in names] or free or t.variables
    if not symbols:
        raise InvalidArgument("the equation has no variable to solve for")
    for symbol in symbols:
        if names and symbol not in met:
            raise InvalidArgument(f"no equation contains {symbol}; they have {', '.join(map(str, met)) or 'none'}")
    shown = [str(symbol) for symbol in symbols]
    if len(equations) == 1 and len(symbols) == 1:
        domain = _domain(t.assumed(shown[0]))
        return _solve_one(equations[0], symbols[0], domain, precision)
    found = sp.solve(equations, symbols, dict=True)
    solutions = [Solution(values=_forms(one, precision)) for one in _ordered(found)]
    polynomial = all(equation.is_polynomial(*symbols) for equation in equations)
    return Solutions(variables=shown, solutions=solutions, complete=polynomial)


def _difference(t: Translator, node: Expression) -> Any:
    if isinstance(node, Binary) and node.operator == "==":
        return t.number(node.left) - t.number(node.right)
    if isinstance(node, Binary) and node.operator in ("<", "<=", ">", ">=", "!="):
        raise InvalidArgument(f"{node.operator} is not an equation; write =")
    return t.number(node)


def _domain(kind: str) -> Any:
    return {
        "complex": sp.S.Complexes, "nonzero": sp.S.Complexes - sp.FiniteSet(0), "integer": sp.S.Integers,
        "positive": sp.Interval.open(0, sp.oo), "negative": sp.Interval.open(-sp.oo, 0),
        "nonnegative": sp.Interval(0, sp.oo),
    }.get(kind, sp.S.Reals)  # fmt: skip


def _solve_one(equation: Any, x: Any, domain: Any, precision: int) -> Solutions:
    try:
        found = sp.solveset(equation, x, domain)
    except (NotImplementedError, ValueError):
        found = sp.ConditionSet(x, sp.Eq(equation, 0), domain)
    if found in (sp.S.Complexes, sp.S.Reals, domain):
        return Solutions(variables=[str(x)], solutions=[], complete=True, always=True)
    listed = _listed(found, x, equation.free_symbols)
    if listed is not None:
        return Solutions(variables=[str(x)], solutions=_shown(listed, x, precision), complete=True)
    some = _some_solutions(equation, x, domain, precision)
    if not some:
        raise Unimplemented("no way to solve this equation is known; no solution was found numerically either")
    return Solutions(variables=[str(x)], solutions=some, complete=False)


def _some_solutions(equation: Any, x: Any, domain: Any, precision: int) -> list[Solution]:
    """Solutions that may not be all: exact ones if there is a way, else real roots found numerically."""
    with contextlib.suppress(NotImplementedError):
        values: list[tuple[Any, list[str]]] = [
            (value, []) for value in sp.solve(equation, x) if domain.contains(value) is not sp.false
        ]
        if values:
            return _shown(values, x, precision)
    with contextlib.suppress(NotImplementedError, ValueError):
        listed = _listed(sp.solveset(equation, x, sp.S.Reals), x, equation.free_symbols)
        if listed and domain == sp.S.Complexes:
            return _shown(listed, x, precision)
    if equation.free_symbols != {x}:
        return []
    roots = [root for root in _real_roots(equation, x, precision) if domain.contains(root) is not sp.false]
    return [Solution(values={str(x): _approximate(root, precision)}) for root in roots]


def _listed(found: Any, x: Any, taken: set[Any]) -> list[tuple[Any, list[str]]] | None:
    """The elements of a set, each with the names of its integer parameters; None when it can't be listed."""
    if found is sp.S.EmptySet:
        return []
    if isinstance(found, sp.FiniteSet):
        return [(value, []) for value in found.args]
    if isinstance(found, sp.Union):
        parts = [_listed(part, x, taken) for part in found.args]
        return None if any(part is None for part in parts) else [one for part in parts for one in part or []]
    if isinstance(found, sp.Complement) and isinstance(found.args[1], sp.FiniteSet):
        return _listed(found.args[0], x, taken)
    if isinstance(found, sp.ImageSet) and found.base_sets == (sp.S.Integers,):
        used = {str(symbol) for symbol in taken}
        name = next(name for name in ("n", "k", "n1", "n2", "n3", "n4") if name not in used)
        return [(sp.expand(found.lamda(sp.Symbol(name, integer=True))), [name])]
    return None


def _shown(values: list[tuple[Any, list[str]]], x: Any, precision: int) -> list[Solution]:
    if len(values) > _MAX_SOLUTIONS:
        raise InvalidArgument(f"the equation has {len(values)} solutions; at most {_MAX_SOLUTIONS} are listed")
    roots = [value for value, _ in values if isinstance(value, sp.ComplexRootOf)]
    ordered = sorted((one for one in values if one[0] not in roots), key=lambda value: _place(value[0]))
    exact = [Solution(values={str(x): form_of(value, precision)}, parameters=names) for value, names in ordered]
    return exact + [
        Solution(values={str(x): _approximate(value, precision)}) for value in _numeric_roots(roots, precision)
    ]


def _numeric_roots(roots: list[Any], precision: int) -> list[Any]:
    """Roots of polynomials without radicals; all of one polynomial at once takes a hundredth of the time."""
    found: list[Any] = []
    for polynomial in {root.poly for root in roots}:
        asked = [root for root in roots if root.poly == polynomial]
        every = polynomial.nroots(n=precision + 10, maxsteps=500)
        found += every if len(asked) == len(every) else [root.evalf(precision + 10) for root in asked]
    return sorted(found, key=_place)


def _ordered(found: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    return sorted(
        found, key=lambda one: [_place(value) for _, value in sorted(one.items(), key=lambda p: str(p[0]))]
    )


def _place(value: Any) -> tuple[Any, ...]:
    """Numbers by size, real ones first; then the rest."""
    if value.free_symbols:
        return (2, 0.0, 0.0, str(value))
    number = complex(value.evalf(15, chop=True))
    return (int(abs(number.imag) > 1e-12), number.real, number.imag, "")


def _forms(solution: dict[Any, Any], precision: int) -> dict[str, Form]:
    return {
        str(symbol): form_of(value, precision)
        for symbol, value in sorted(solution.items(), key=lambda p: str(p[0]))
    }


def _approximate(root: Any, precision: int) -> Form:
    form = form_of(root, precision)
    return Form(exact=None, decimal=form.decimal, type="complex" if form.type == "complex" else "real", latex=None)


def _real_roots(equation: Any, x: Any, precision: int) -> list[Any]:
    """Roots between points where the sign changes, each checked to be one by the method that finds it."""
    digits = precision + 10

    def at(point: Any, places: int) -> Any:
        value = equation.evalf(places, subs={x: sp.Float(point, places)})
        return mpmath.mpf(value._mpf_) if isinstance(value, sp.Float) else mpmath.mpf(0) if value.is_zero else None

    points = [36 * math.sinh(8 * step / _GRID - 4) for step in range(_GRID + 1)]
    values = [at(point, 15) for point in points]
    roots: list[Any] = []
    with mpmath.workdps(digits):
        for index in range(_GRID):
            left, right = values[index], values[index + 1]
            if left is None or right is None or left * right > 0 or not right:
                continue
            with contextlib.suppress(ValueError, ZeroDivisionError, TypeError):
                ends = (mpmath.mpf(points[index]), mpmath.mpf(points[index + 1]))
                root = mpmath.findroot(lambda v: at(v, digits), ends, solver="anderson")
                roots.append(sp.Float(root, digits))
    return roots
