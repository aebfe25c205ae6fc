"""The calculator's nodes to SymPy's expressions, name by name: no text is ever evaluated.

What the calculator knows and SymPy can't reason about (units of measure, lists, sorting) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp

from smol.errors import InvalidArgument, NotFound, nearest
from smol.units.math.limits import MAX_BITS, too_many_digits
from smol.units.math.syntax import Binary, Call, Expression, Name, Number, Postfix, Prefix

__all__ = ["ASSUMPTIONS", "CONSTANTS", "FUNCTIONS", "Translator", "is_truth"]

ASSUMPTIONS = ("complex", "real", "positive", "negative", "nonnegative", "nonzero", "integer", "rational")

CONSTANTS: dict[str, Any] = {
    "pi": sp.pi, "π": sp.pi, "tau": 2 * sp.pi, "e": sp.E, "i": sp.I, "phi": sp.GoldenRatio,
    "euler_gamma": sp.EulerGamma, "catalan_g": sp.Catalan, "infinity": sp.oo, "inf": sp.oo, "∞": sp.oo,
    "true": sp.true, "false": sp.false, "deg": sp.pi / 180, "rad": sp.Integer(1),
}  # fmt: skip


_THREE = sp.Integer(3)


def _root(value: Any, degree: Any = _THREE) -> Any:
    """Real for odd roots of negative numbers, as the calculator's."""
    return sp.real_root(value, degree) if value.is_negative else sp.root(value, degree)


def _factorial(value: Any) -> Any:
    if value.is_Integer and value > 3248:
        raise too_many_digits()
    return sp.factorial(value)


def _mean(*values: Any) -> Any:
    return sp.Add(*values) / len(values)


# Name: the least and the largest number of arguments (None for any), and what makes the expression.
FUNCTIONS: dict[str, tuple[int, int | None, Callable[..., Any]]] = {
    "sqrt": (1, 1, sp.sqrt), "cbrt": (1, 1, _root), "root": (2, 2, _root), "exp": (1, 1, sp.exp),
    "ln": (1, 1, sp.log), "log": (1, 2, sp.log), "log2": (1, 1, lambda x: sp.log(x, 2)),
    "log10": (1, 1, lambda x: sp.log(x, 10)),
    "sin": (1, 1, sp.sin), "cos": (1, 1, sp.cos), "tan": (1, 1, sp.tan), "cot": (1, 1, sp.cot),
    "sec": (1, 1, sp.sec), "csc": (1, 1, sp.csc), "asin": (1, 1, sp.asin), "acos": (1, 1, sp.acos),
    "atan": (1, 1, sp.atan), "acot": (1, 1, sp.acot), "asec": (1, 1, sp.asec), "acsc": (1, 1, sp.acsc),
    "atan2": (2, 2, sp.atan2), "sinh": (1, 1, sp.sinh), "cosh": (1, 1, sp.cosh), "tanh": (1, 1, sp.tanh),
    "coth": (1, 1, sp.coth), "sech": (1, 1, sp.sech), "csch": (1, 1, sp.csch),
    "asinh": (1, 1, sp.asinh), "acosh": (1, 1, sp.acosh), "atanh": (1, 1, sp.atanh), "acoth": (1, 1, sp.acoth),
    "abs": (1, 1, sp.Abs), "sign": (1, 1, sp.sign), "floor": (1, 1, sp.floor), "ceil": (1, 1, sp.ceiling),
    "trunc": (1, 1, lambda x: sp.sign(x) * sp.floor(sp.Abs(x))), "mod": (2, 2, sp.Mod),
    "re": (1, 1, sp.re), "im": (1, 1, sp.im), "arg": (1, 1, sp.arg), "conj": (1, 1, sp.conjugate),
    "factorial": (1, 1, _factorial), "binomial": (2, 2, sp.binomial), "nCr": (2, 2, sp.binomial),
    "permutations": (2, 2, sp.ff), "nPr": (2, 2, sp.ff), "fibonacci": (1, 1, sp.fibonacci),
    "catalan": (1, 1, sp.catalan), "harmonic": (1, 2, sp.harmonic), "bernoulli": (1, 1, sp.bernoulli),
    "gcd": (1, None, lambda *x: sp.gcd_list(x)), "lcm": (1, None, lambda *x: sp.lcm_list(x)),
    "gamma": (1, 1, sp.gamma), "lgamma": (1, 1, sp.loggamma), "digamma": (1, 1, sp.digamma),
    "polygamma": (2, 2, sp.polygamma), "lowergamma": (2, 2, sp.lowergamma), "uppergamma": (2, 2, sp.uppergamma),
    "beta": (2, 2, sp.beta), "zeta": (1, 2, sp.zeta), "polylog": (2, 2, sp.polylog),
    "erf": (1, 1, sp.erf), "erfc": (1, 1, sp.erfc), "erfi": (1, 1, sp.erfi),
    "fresnels": (1, 1, sp.fresnels), "fresnelc": (1, 1, sp.fresnelc),
    "besselj": (2, 2, sp.besselj), "bessely": (2, 2, sp.bessely), "besseli": (2, 2, sp.besseli),
    "besselk": (2, 2, sp.besselk), "airyai": (1, 1, sp.airyai), "airybi": (1, 1, sp.airybi),
    "lambertw": (1, 2, sp.LambertW), "ei": (1, 1, sp.Ei), "expint": (2, 2, sp.expint), "li": (1, 1, sp.li),
    "si": (1, 1, sp.Si), "ci": (1, 1, sp.Ci), "shi": (1, 1, sp.Shi), "chi": (1, 1, sp.Chi),
    "ellipk": (1, 1, sp.elliptic_k), "ellipe": (1, 2, sp.elliptic_e), "ellipf": (2, 2, sp.elliptic_f),
    "heaviside": (1, 1, sp.Heaviside), "dirac": (1, 1, sp.DiracDelta),
    "min": (1, None, sp.Min), "max": (1, None, sp.Max), "sum": (1, None, sp.Add), "product": (1, None, sp.Mul),
    "mean": (1, None, _mean),
}  # fmt: skip

_COMPARISONS: dict[str, Callable[..., Any]] = {
    "==": sp.Eq, "!=": sp.Ne, "<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge,
}  # fmt: skip


class Translator:
    """Gives each name one meaning for the length of a computation.

    assume: what is known of variables, by name: one of ASSUMPTIONS.
    """

    def __init__(self, assume: Mapping[str, str] | None = None) -> None:
        self._assume = dict(assume or {})
        self._symbols: dict[str, Any] = {}
        for name, kind in self._assume.items():
            if kind not in ASSUMPTIONS:
                raise InvalidArgument(
                    f"{name} can't be assumed {kind!r}{nearest(kind, ASSUMPTIONS)}; "
                    f"known: {', '.join(ASSUMPTIONS)}"
                )
            self.symbol(name)

    def symbol(self, name: str) -> Any:
        """The variable `name`. Raises InvalidArgument for a name that means something else."""
        if name in CONSTANTS or name in FUNCTIONS or not name.isidentifier() or len(name) > 64:
            taken = "a constant" if name in CONSTANTS else "a function" if name in FUNCTIONS else "no name"
            raise InvalidArgument(f"{name[:80]!r} is {taken}, so it can't be a variable")
        if name not in self._symbols:
            kind = self.assumed(name)
            self._symbols[name] = sp.Symbol(name, **{kind: True})
        return self._symbols[name]

    @property
    def variables(self) -> list[Any]:
        """Those met so far, by name."""
        return sorted(self._symbols.values(), key=str)

    def assumed(self, name: str) -> str:
        """What is known of the variable `name`: one of ASSUMPTIONS."""
        return self._assume.get(name, "complex")

    def expression(self, node: Expression) -> Any:
        """The node as SymPy's. Raises SmolError."""
        if isinstance(node, Number):
            return _number(node.value)
        if isinstance(node, Name):
            if node.text in FUNCTIONS:
                raise InvalidArgument(f"{node.text} is a function: write {node.text}(…)")
            return CONSTANTS[node.text] if node.text in CONSTANTS else self.symbol(node.text)
        if isinstance(node, Binary):
            return self._chain(node)
        if isinstance(node, Prefix):
            if node.operator == "not":
                return sp.Not(self._truth(node.operand))
            value = self.number(node.operand)
            return -value if node.operator == "-" else value
        if isinstance(node, Postfix):
            value = self.number(node.operand)
            return value / 100 if node.operator == "%" else _factorial(value)
        if isinstance(node, Call):
            return self._call(node)
        raise InvalidArgument("vectors and matrices are for math.evaluate and linalg; algebra takes expressions")

    def number(self, node: Expression) -> Any:
        """The node, which must not be true or false. Raises InvalidArgument."""
        value = self.expression(node)
        if is_truth(value):
            raise InvalidArgument(
                f"a number or an expression is needed here, not the comparison {str(value)[:80]}"
            )
        return value

    def _truth(self, node: Expression) -> Any:
        value = self.expression(node)
        if not is_truth(value):
            raise InvalidArgument("and, or, not and if take comparisons such as x > 3, or true and false")
        return value

    def _chain(self, node: Binary) -> Any:
        # Left-nested operators are as long as the text: a loop, where recursion would overflow.
        spine = [node]
        while isinstance(node.left, Binary):
            node = node.left
            spine.append(node)
        first = spine[-1].left
        if spine[-1].operator in ("and", "or", "xor"):
            return self._logic(spine, self._truth(first))
        if spine[-1].operator in _COMPARISONS:
            compared = self._compare(spine[-1], self.number(first))
            return self._logic(spine[:-1], compared) if len(spine) > 1 else compared
        terms: list[Any] = []  # A long sum is added at once: one by one would take the square of its length.
        value = self.number(first)
        for at in range(len(spine) - 1, -1, -1):
            part = spine[at]
            percent = isinstance(part.right, Postfix) and part.right.operator == "%"
            if part.operator in ("+", "-") and not percent:
                terms.append(value)
                value = self.number(part.right)
                value = -value if part.operator == "-" else value
                continue
            value, terms = sp.Add(*terms, value) if terms else value, []
            if part.operator in ("+", "-"):  # 240 + 15% is 240 and 15% of it.
                share = value * self.number(part.right)
                value = value + share if part.operator == "+" else value - share
            elif part.operator in ("and", "or", "xor") or part.operator in _COMPARISONS:
                compared = self._compare(part, value)
                return self._logic(spine[:at], compared) if at else compared
            else:
                value = self._times(part, value)
        return sp.Add(*terms, value) if terms else value

    def _logic(self, spine: list[Binary], value: Any) -> Any:
        makers: dict[str, Callable[..., Any]] = {"and": sp.And, "or": sp.Or, "xor": sp.Xor}
        for part in reversed(spine):
            if part.operator not in makers:
                raise InvalidArgument(f"{part.operator} can't follow a comparison; combine them by and, or")
            value = makers[part.operator](value, self._truth(part.right))
        return value

    def _compare(self, part: Binary, left: Any) -> Any:
        if part.operator not in _COMPARISONS:
            raise InvalidArgument("and, or, not and if take comparisons such as x > 3, or true and false")
        try:
            return _COMPARISONS[part.operator](left, self.number(part.right))
        except TypeError:
            raise InvalidArgument("complex numbers have no order; assume the variables real") from None

    def _times(self, part: Binary, left: Any) -> Any:
        right = self.number(part.right)
        operator = part.operator
        if operator in ("*", "of"):
            return left * right
        if operator == "^":
            return _power(left, right)
        if operator == "to":
            raise InvalidArgument("units of measure are for math.evaluate; algebra takes expressions")
        if right.is_zero:
            raise InvalidArgument("division by zero")
        return left / right if operator == "/" else sp.Mod(left, right)

    def _call(self, node: Call) -> Any:
        name, count = node.function, len(node.arguments)
        if name == "if" and count == 3:
            condition, then, other = node.arguments
            return sp.Piecewise((self.number(then), self._truth(condition)), (self.number(other), True))
        if name not in FUNCTIONS:
            if name in CONSTANTS or name in self._symbols or len(name) == 1:
                raise InvalidArgument(f"{name} is not a function; to multiply, write {name} * (…)")
            raise NotFound(f"algebra knows no function {name!r}{nearest(name, FUNCTIONS)}")
        least, most, make = FUNCTIONS[name]
        if count < least or (most is not None and count > most):
            wanted = str(least) if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise InvalidArgument(f"{name} takes {wanted} argument{'' if wanted == '1' else 's'}, not {count}")
        return make(*[self.number(argument) for argument in node.arguments])


def is_truth(value: Any) -> bool:
    """Whether it is a comparison, or true or false; SymPy's symbols may stand for both."""
    return isinstance(value, sp.logic.boolalg.Boolean) and not isinstance(value, sp.Symbol)


def _number(value: int | Fraction) -> Any:
    return sp.Integer(value) if isinstance(value, int) else sp.Rational(value.numerator, value.denominator)


def _power(base: Any, exponent: Any) -> Any:
    """Refused before it is large."""
    if base.is_zero and exponent.is_negative:
        raise InvalidArgument("division by zero: 0 to a negative power")
    if base.is_Rational and exponent.is_Rational and abs(base) != 1:
        size = max(int(base.p).bit_length(), int(base.q).bit_length()) - 1
        if size * abs(exponent) > MAX_BITS:
            raise too_many_digits()
    return sp.Pow(base, exponent)
