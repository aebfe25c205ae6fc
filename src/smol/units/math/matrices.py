"""Vectors (lists) and matrices (lists of equally long lists) of any scalars, exact where those are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from smol.errors import InvalidArgument, ResourceExhausted
from smol.units.math.arithmetic import integer
from smol.units.math.limits import MAX_ELEMENTS

if TYPE_CHECKING:
    from smol.units.math.evaluator import Evaluator, Value

__all__ = ["FUNCTIONS", "checked", "element", "flat", "is_matrix", "power", "product", "zipped"]

Rows = list[list[Any]]


def checked(value: list[Value]) -> list[Value]:
    """A list that is a vector or a matrix. Raises InvalidArgument."""
    lengths = {len(item) if isinstance(item, list) else -1 for item in value}
    if len(lengths) > 1:
        raise InvalidArgument("the rows of a matrix must have the same length")
    if any(isinstance(item, list) and is_matrix(item) for item in value):
        raise InvalidArgument("lists may be nested once: vectors and matrices, no higher")
    return value


def is_matrix(value: Value) -> bool:
    """Whether it is a list of lists."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def element(value: Value, index: int) -> Value:
    """The element or row `index`, from 1."""
    if not isinstance(value, list):
        raise InvalidArgument("only vectors and matrices have elements")
    if not 1 <= index <= len(value):
        raise InvalidArgument(f"index {str(index)[:20]} is outside 1 to {len(value)}")
    return value[index - 1]


def flat(values: list[Value]) -> Iterator[Value]:
    """Every element, row by row."""
    for value in values:
        if isinstance(value, list):
            yield from flat(value)
        else:
            yield value


def zipped(left: list[Value], right: list[Value], work: Callable[[Value, Value], Value]) -> list[Value]:
    """`work` of each pair. Raises InvalidArgument when the shapes differ."""
    if len(left) != len(right):
        raise InvalidArgument(f"lists of {len(left)} and {len(right)} elements don't fit")
    return [work(a, b) for a, b in zip(left, right, strict=True)]


def product(ev: Evaluator, left: list[Value], right: list[Value]) -> Value:
    """Matrix product; of two vectors the dot product."""
    rows = left if is_matrix(left) else [left]
    columns = _transposed(right) if is_matrix(right) else [right]
    if len(rows) * len(columns) > MAX_ELEMENTS:
        raise ResourceExhausted(f"the product would have more than {MAX_ELEMENTS} elements, the limit")
    result = [[_dot(ev, row, column) for column in columns] for row in rows]
    if not is_matrix(left):
        return result[0] if is_matrix(right) else result[0][0]
    return result if is_matrix(right) else [row[0] for row in result]


def power(ev: Evaluator, base: list[Value], exponent: int) -> Value:
    """Of a square matrix; a negative exponent inverts."""
    rows = _square(base)
    if abs(exponent) > 10_000:
        raise ResourceExhausted("the exponent of a matrix is at most 10000 here")
    if exponent < 0:
        rows, exponent = _inverse(ev, rows), -exponent
    result: Value = identity(len(rows))
    for bit in bin(exponent)[2:]:
        result = product(ev, result, result)
        if bit == "1":
            result = product(ev, result, rows)
    return result


def identity(size: int) -> Rows:
    return [[int(row == column) for column in range(size)] for row in range(size)]


def _dot(ev: Evaluator, left: list[Value], right: list[Value]) -> Value:
    if len(left) != len(right):
        raise InvalidArgument(f"lists of {len(left)} and {len(right)} elements can't be multiplied")
    if not left:
        return 0
    total = ev.multiply(left[0], right[0])
    for a, b in zip(left[1:], right[1:], strict=True):
        ev.a.meter.charge(4)
        total = ev.add(total, ev.multiply(a, b))
    return total


def _transposed(value: Value) -> Rows:
    return [list(column) for column in zip(*_matrix(value), strict=True)]


def _matrix(value: Value) -> Rows:
    if not is_matrix(value):
        raise InvalidArgument("this takes a matrix, such as [1, 2; 3, 4]")
    return value  # type: ignore[no-any-return]


def _square(value: Value) -> Rows:
    rows = _matrix(value)
    if len(rows) != len(rows[0]):
        raise InvalidArgument(f"this takes a square matrix, not {len(rows)} by {len(rows[0])}")
    return rows


def _eliminated(ev: Evaluator, value: Rows) -> tuple[Rows, list[int], Any]:
    """Reduced row echelon form, its pivot columns, and the product of pivots with the sign of the swaps."""
    rows = [[ev._scalar(item, "a matrix") for item in row] for row in value]
    pivots: list[int] = []
    scale: Any = 1
    for column in range(len(rows[0]) if rows else 0):
        at = len(pivots)
        best = next((row for row in range(at, len(rows)) if rows[row][column]), None)
        if best is None:
            continue
        if best != at:
            rows[at], rows[best] = rows[best], rows[at]
            scale = ev.a.negate(scale)
        pivot = rows[at][column]
        scale = ev.a.multiply(scale, pivot)
        ev.a.meter.charge(len(rows))
        rows[at] = [ev.a.divide(item, pivot) for item in rows[at]]
        for row, items in enumerate(rows):
            if row != at and items[column]:
                ev.a.meter.charge(5 * len(items))
                factor = ev.a.negate(items[column])
                rows[row] = [
                    ev.a.add(item, ev.a.multiply(factor, other))
                    for item, other in zip(items, rows[at], strict=True)
                ]
        pivots.append(column)
    return rows, pivots, scale


def _determinant(ev: Evaluator, value: Value) -> Any:
    rows = _square(value)
    _, pivots, scale = _eliminated(ev, rows)
    return scale if len(pivots) == len(rows) else 0


def _inverse(ev: Evaluator, value: Value) -> Rows:
    rows = _square(value)
    joined = [[*row, *unit] for row, unit in zip(rows, identity(len(rows)), strict=True)]
    reduced, pivots, _ = _eliminated(ev, joined)
    if pivots != list(range(len(rows))):
        raise InvalidArgument("the matrix is singular: it has no inverse")
    return [row[len(rows) :] for row in reduced]


def _solution(ev: Evaluator, matrix: Value, right: Value) -> Value:
    return product(ev, _inverse(ev, matrix), right if isinstance(right, list) else [right])


def _cross(ev: Evaluator, left: Value, right: Value) -> Value:
    if not (isinstance(left, list) and isinstance(right, list) and len(left) == len(right) == 3):
        raise InvalidArgument("cross takes two vectors of 3 elements")
    pairs = ((1, 2), (2, 0), (0, 1))
    return [
        ev.add(ev.multiply(left[i], right[j]), ev.multiply(ev.multiply(left[j], right[i]), -1)) for i, j in pairs
    ]


def _norm(ev: Evaluator, value: Value) -> Value:
    items = list(flat([value]))
    return ev.power(_dot(ev, items, items), ev.a.divide(1, 2))


def _trace(ev: Evaluator, value: Value) -> Value:
    rows = _square(value)
    total: Value = rows[0][0]
    for index in range(1, len(rows)):
        total = ev.add(total, rows[index][index])
    return total


def _identity(ev: Evaluator, size: Value) -> Rows:
    count = integer(size, "the size of an identity matrix")
    if not 1 <= count <= 100:
        raise ResourceExhausted(f"identity takes 1 to 100, not {str(count)[:20]}")
    ev.a.meter.charge(count * count // 10)
    return identity(count)


def _range(ev: Evaluator, first: Value, last: Value, step: Value = 1) -> list[Value]:
    a, b, c = (integer(value, "each argument of range") for value in (first, last, step))
    if not c:
        raise InvalidArgument("the step of a range is not 0")
    count = max(0, (b - a) // c + 1)
    if count > MAX_ELEMENTS:
        raise ResourceExhausted(f"range would have more than {MAX_ELEMENTS} elements, the limit")
    return [a + index * c for index in range(count)]


def _length(ev: Evaluator, value: Value) -> int:
    if not isinstance(value, list):
        raise InvalidArgument("length takes a vector or matrix")
    return len(value)


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any], str]] = {
    "det": (1, 1, _determinant, "determinant"),
    "inv": (1, 1, _inverse, "inverse matrix"),
    "transpose": (1, 1, lambda ev, value: _transposed(value), "rows as columns"),
    "trace": (1, 1, _trace, "sum of the diagonal"),
    "rank": (1, 1, lambda ev, value: len(_eliminated(ev, _matrix(value))[1]), "rank of a matrix"),
    "rref": (1, 1, lambda ev, value: _eliminated(ev, _matrix(value))[0], "reduced row echelon form"),
    "lusolve": (2, 2, _solution, "lusolve(A, b): the x of A x = b"),
    "dot": (2, 2, lambda ev, left, right: product(ev, left, right), "dot product"),
    "cross": (2, 2, _cross, "cross product of vectors of 3 elements"),
    "norm": (1, 1, _norm, "Euclidean length; Frobenius norm of a matrix"),
    "identity": (1, 1, _identity, "identity matrix of n rows"),
    "range": (2, 3, _range, "range(first, last), range(first, last, step): integers, last included"),
    "length": (1, 1, _length, "number of elements, or of rows"),
}
