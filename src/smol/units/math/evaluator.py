"""Nodes to values, with names and user functions. Values: bool, scalars, quantities and lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from smol.errors import InvalidArgument, NotFound, ResourceExhausted, nearest
from smol.units.math import matrices
from smol.units.math.arithmetic import Arithmetic, Scalar, integer
from smol.units.math.functions import CONSTANTS, FUNCTIONS
from smol.units.math.limits import MAX_CALL_DEPTH, MAX_ELEMENTS
from smol.units.math.quantities import Quantity, base_label, combined, converted, find_unit, names
from smol.units.math.syntax import (
    Assign,
    Binary,
    Call,
    Define,
    Expression,
    Index,
    List,
    Name,
    Number,
    Postfix,
    Prefix,
    Statement,
)

__all__ = ["Evaluator", "Value"]

Value = Any
"""bool, a scalar, a Quantity, or a list of values."""

_COMPARISONS = {
    "==": (0,), "!=": (-1, 1), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1),
}  # fmt: skip


class Evaluator:
    """One evaluation: its arithmetic, its variables and its functions.

    variables: values by name, as statements set them.
    """

    def __init__(self, arithmetic: Arithmetic, variables: Mapping[str, Value]) -> None:
        self.a = arithmetic
        self.variables = dict(variables)
        self.functions: dict[str, Define] = {}
        self._depth = 0

    def run(self, statements: list[Statement]) -> Value:
        """The value of the last statement. A definition has none: raises InvalidArgument."""
        value: Value = None
        for statement in statements:
            if type(statement) is Assign:
                value = self.variables[statement.name] = self.value(statement.value)
            elif type(statement) is Define:
                self.functions[statement.name] = statement
                value = None
            else:
                value = self.value(statement)  # type: ignore[arg-type]
        if value is None:
            raise InvalidArgument("the last statement defines a function; add one to evaluate, such as f(3)")
        return value

    def value(self, node: Expression) -> Value:
        """The value of a node. Raises SmolError."""
        if type(node) is Number:
            return node.value
        self._depth += 1
        if self._depth > MAX_CALL_DEPTH:
            raise ResourceExhausted(
                f"evaluation goes deeper than {MAX_CALL_DEPTH} levels, the limit; does a function call itself?"
            )
        self.a.meter.charge(2)
        result = self._value(node)
        self._depth -= 1
        return result

    def _value(self, node: Expression) -> Value:
        kind = type(node)
        if kind is Binary:
            return self._chain(node)  # type: ignore[arg-type]
        if kind is Name:
            return self._name(node.text)  # type: ignore[union-attr]
        if kind is Call:
            return self._call(node)  # type: ignore[arg-type]
        if isinstance(node, Prefix):
            return self._prefix(node)
        if isinstance(node, Postfix):
            value = self.value(node.operand)
            if node.operator == "%":
                return self._each(value, lambda scalar: self.a.divide(self._scalar(scalar, "%"), 100))
            return self._each(value, lambda scalar: FUNCTIONS["factorial"].work(self.a, self._scalar(scalar, "!")))
        if isinstance(node, List):
            if len(node.items) > MAX_ELEMENTS:
                raise ResourceExhausted(f"a list may have {MAX_ELEMENTS} elements, not {len(node.items)}")
            return matrices.checked([self.value(item) for item in node.items])
        if isinstance(node, Index):
            target = self.value(node.target)
            for index in node.indices:
                target = matrices.element(target, integer(self.value(index), "an index"))
            return target
        raise InvalidArgument(f"{kind.__name__} can't be evaluated")

    def _chain(self, node: Binary) -> Value:
        # Left-nested operators are as long as the text: a loop, where recursion would overflow.
        spine = [node]
        while type(node.left) is Binary:
            node = node.left
            spine.append(node)
        value = self.value(node.left)
        for part in reversed(spine):
            self.a.meter.charge(1)
            value = self._binary(part, value)
        return value

    def _binary(self, node: Binary, left: Value) -> Value:
        operator = node.operator
        if operator in ("and", "or"):
            left = self._truth(left)
            return self._truth(self.value(node.right)) if left is (operator == "and") else left
        right = self.value(node.right)
        if operator in ("+", "-"):
            if type(node.right) is Postfix and node.right.operator == "%":
                right = self.multiply(left, right)  # 240 + 15% is 240 and 15% of it.
            return self.add(left, right if operator == "+" else self.multiply(right, -1))
        if operator in ("*", "of"):
            return self.multiply(left, right)
        if operator == "/":
            return self.divide(left, right)
        if operator == "^":
            return self.power(left, right)
        if operator in ("%", "mod"):
            return FUNCTIONS["mod"].work(self.a, self._scalar(left, "mod"), self._scalar(right, "mod"))
        if operator == "to":
            return self._to(left, right)
        if operator == "xor":
            return self._truth(left) is not self._truth(right)
        return self._compare(operator, left, right)

    def _compare(self, operator: str, left: Value, right: Value) -> bool:
        if operator in ("==", "!=") and (isinstance(left, (list, bool)) or isinstance(right, (list, bool))):
            return (left == right) is (operator == "==")
        if isinstance(left, Quantity) or isinstance(right, Quantity):
            left = self.divide(left, Quantity(1, right.dimensions, "", 1)) if isinstance(right, Quantity) else left
            right = right.value if isinstance(right, Quantity) else right
            if isinstance(left, Quantity):
                raise InvalidArgument("quantities of different dimensions can't be compared")
        difference = self.a.add(self._scalar(left, operator), self.a.negate(self._scalar(right, operator)))
        if operator in ("==", "!="):
            return (not difference) is (operator == "==")
        return self.a.compare(difference, 0) in _COMPARISONS[operator]

    def _prefix(self, node: Prefix) -> Value:
        value = self.value(node.operand)
        if node.operator == "not":
            return not self._truth(value)
        return value if node.operator == "+" else self.multiply(value, -1)

    def _name(self, text: str) -> Value:
        if text in self.variables:
            return self.variables[text]
        if text in CONSTANTS:
            return CONSTANTS[text](self.a)
        unit = find_unit(text)
        if unit is not None:
            return unit
        if text == "deg":
            return self.a.divide(self.a.mp.pi, 180)
        if text == "rad":
            return 1
        if text in FUNCTIONS or text in self.functions:
            raise InvalidArgument(f"{text} is a function: write {text}(…)")
        known = [*self.variables, *CONSTANTS, *FUNCTIONS, *names()]
        raise NotFound(f"no variable, constant or unit {text!r}{nearest(text, known)}")

    def _call(self, node: Call) -> Value:
        name, count = node.function, len(node.arguments)
        if name == "if" and count == 3:
            chosen = 1 if self._truth(self.value(node.arguments[0])) else 2
            return self.value(node.arguments[chosen])
        arguments = [self.value(argument) for argument in node.arguments]
        if name in self.functions:
            return self._own(self.functions[name], arguments)
        if name in matrices.FUNCTIONS:
            least, most, work, _ = matrices.FUNCTIONS[name]
            _check_count(name, count, least, most)
            return work(self, *arguments)
        function = FUNCTIONS.get(name)
        if function is None:
            if name in self.variables or name in CONSTANTS:
                raise InvalidArgument(f"{name} is not a function; to multiply, write {name} * (…)")
            known = [*self.functions, *FUNCTIONS, *matrices.FUNCTIONS]
            raise NotFound(f"no function {name!r}{nearest(name, known)}")
        if function.listed:
            values = list(matrices.flat(arguments))
            _check_count(name, len(values), function.least, function.most)
            return self._listed(name, values)
        _check_count(name, count, function.least, function.most)
        first, *rest = arguments
        others = [self._scalar(value, name) for value in rest]
        if isinstance(first, Quantity) and name in ("abs", "sqrt"):
            return (
                self.power(first, Fraction(1, 2))
                if name == "sqrt"
                else (Quantity(abs(first.value), first.dimensions, first.label, first.factor))
            )
        return self._each(first, lambda value: function.work(self.a, self._scalar(value, name), *others))

    def _listed(self, name: str, values: list[Value]) -> Value:
        first = values[0]
        if isinstance(first, Quantity) and name in (
            "min",
            "max",
            "sum",
            "mean",
            "median",
            "stdev",
            "pstdev",
            "std",
        ):
            numbers = [value.value for value in values if isinstance(value, Quantity)
                       and value.dimensions == first.dimensions]  # fmt: skip
            if len(numbers) < len(values):
                raise InvalidArgument(f"{name} takes quantities of one dimension only")
            result = FUNCTIONS[name].work(self.a, numbers)
            return Quantity(result, first.dimensions, first.label, first.factor, first.offset)
        return FUNCTIONS[name].work(self.a, [self._scalar(value, name) for value in values])

    def _own(self, function: Define, arguments: list[Value]) -> Value:
        _check_count(function.name, len(arguments), len(function.parameters), len(function.parameters))
        outside = self.variables
        self.variables = {**outside, **dict(zip(function.parameters, arguments, strict=True))}
        try:
            return self.value(function.body)
        finally:
            self.variables = outside

    def _to(self, left: Value, unit: Value) -> Value:
        if not isinstance(unit, Quantity):
            raise InvalidArgument("the right side of a conversion is a unit, for example: 3 ft to m")
        if isinstance(left, list):
            return [self._to(item, unit) for item in left]
        if not isinstance(left, Quantity):
            raise InvalidArgument(f"a plain number can't be converted to {unit.label}; give it a unit")
        return converted(left, unit)

    # Operators over every kind of value ---------------------------------------------------------

    def add(self, left: Value, right: Value) -> Value:
        """Sum of scalars, of quantities of one dimension, of lists of one shape."""
        if isinstance(left, list) and isinstance(right, list):
            return matrices.zipped(left, right, self.add)
        if isinstance(left, Quantity) and isinstance(right, Quantity):
            converted(right, left)
            if left.offset and right.offset:
                raise InvalidArgument("absolute temperatures can't be added; add kelvins: 20 degC + 5 K")
            total = self.a.add(left.value, right.value)
            return Quantity(total, left.dimensions, left.label, left.factor, left.offset)
        return self.a.add(self._scalar(left, "+"), self._scalar(right, "+"))

    def multiply(self, left: Value, right: Value) -> Value:
        """Product; of two lists the matrix product."""
        if isinstance(left, list) or isinstance(right, list):
            if isinstance(left, list) and isinstance(right, list):
                return matrices.product(self, left, right)
            if isinstance(left, list):
                return self._each(left, lambda value: self.multiply(value, right))
            return self._each(right, lambda value: self.multiply(left, value))
        if isinstance(left, Quantity) or isinstance(right, Quantity):
            return self._scale(left, right, 1)
        return self.a.multiply(self._scalar(left, "*"), self._scalar(right, "*"))

    def divide(self, left: Value, right: Value) -> Value:
        """Quotient; of a list each element."""
        if isinstance(left, list):
            return self._each(left, lambda value: self.divide(value, right))
        if isinstance(left, Quantity) or isinstance(right, Quantity):
            return self._scale(left, right, -1)
        return self.a.divide(self._scalar(left, "/"), self._scalar(right, "/"))

    def power(self, base: Value, exponent: Value) -> Value:
        """Power; of a quantity and of a square matrix with an integer exponent."""
        exponent = self._scalar(exponent, "^")
        if isinstance(base, list):
            return matrices.power(self, base, integer(exponent, "the exponent of a matrix"))
        if not isinstance(base, Quantity):
            return self.a.power(self._scalar(base, "^"), exponent)
        if not isinstance(exponent, (int, Fraction)) or not -100 <= exponent <= 100:
            raise InvalidArgument("a quantity's exponent is a rational number of at most 100")
        powers = [Fraction(dimension) * exponent for dimension in base.dimensions]
        if any(power.denominator != 1 for power in powers):
            raise InvalidArgument(f"this power of {base.label} is no unit")
        dimensions = tuple(int(power) for power in powers)
        label = f"{base.label}^{exponent}" if _is_simple(base.label) else base_label(dimensions)
        factor = self.a.power(base.factor, exponent) if _is_simple(base.label) else 1
        return combined(self.a, self.a.power(base.value, exponent), dimensions, label, factor)

    def _scale(self, left: Value, right: Value, sign: int) -> Value:
        work = self.a.multiply if sign > 0 else self.a.divide
        if not isinstance(right, Quantity):
            if left.offset:
                raise InvalidArgument(f"absolute temperatures can't be scaled; convert {left.label} to K first")
            return Quantity(
                work(left.value, self._scalar(right, "*")), left.dimensions, left.label, left.factor, left.offset
            )
        if not isinstance(left, Quantity):
            number = self._scalar(left, "*")
            if right.offset:
                if sign < 0:
                    raise InvalidArgument(f"a number can't be divided by an absolute temperature ({right.label})")
                size = self.a.add(right.value, -right.offset)
                value = self.a.add(self.a.multiply(number, size), right.offset)
                return Quantity(value, right.dimensions, right.label, right.factor, right.offset)
            if sign > 0:
                value = self.a.multiply(number, right.value)
                return Quantity(value, right.dimensions, right.label, right.factor)
            dimensions = tuple(-power for power in right.dimensions)
            return Quantity(self.a.divide(number, right.value), dimensions, f"1/{right.label}",
                            self.a.divide(1, right.factor))  # fmt: skip
        dimensions = tuple(a + sign * b for a, b in zip(left.dimensions, right.dimensions, strict=True))
        label = f"{left.label}{'*' if sign > 0 else '/'}{right.label}"
        factor = work(left.factor, right.factor)
        if len(label) > 60:
            label, factor = base_label(dimensions), 1
        if sign < 0 and not _is_simple(right.label):
            label, factor = base_label(dimensions), 1
        return combined(self.a, work(left.value, right.value), dimensions, label, factor)

    def _each(self, value: Value, work: Any) -> Value:
        if isinstance(value, list):
            return [self._each(item, work) for item in value]
        return work(value)

    def _scalar(self, value: Value, what: str) -> Scalar:
        kind = type(value)
        if kind is int or kind is Fraction:
            return value
        if kind is bool or kind is list or kind is Quantity:
            told = {
                bool: "true or false",
                list: "a list",
                Quantity: f"a quantity in {getattr(value, 'label', '')}",
            }
            raise InvalidArgument(f"{what} takes plain numbers here, not {told[kind]}")
        return value

    def _truth(self, value: Value) -> bool:
        if type(value) is not bool:
            raise InvalidArgument("and, or, not and if take comparisons such as x > 3, or true and false")
        return value


def _is_simple(label: str) -> bool:
    return label.isalpha()


def _check_count(name: str, count: int, least: int, most: int | None) -> None:
    if count < least or (most is not None and count > most):
        wanted = str(least) if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        raise InvalidArgument(f"{name} takes {wanted} argument{'' if wanted == '1' else 's'}, not {count}")
