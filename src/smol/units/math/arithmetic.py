"""Arithmetic on scalars: exact while it can be, at the chosen precision otherwise, always metered.

A scalar is an int, a Fraction, a `Gaussian` (exact complex) or a number of mpmath. mpmath is loaded by
the first inexact operation, never before. Vectors and quantities are built on this in `evaluator`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any, TypeAlias

from smol.errors import InvalidArgument, ResourceExhausted
from smol.units.math.limits import MAX_BITS, Meter, too_many_digits

__all__ = ["Arithmetic", "Exact", "Gaussian", "Scalar", "exact_root", "integer", "is_exact", "reduced"]

Exact: TypeAlias = int | Fraction
Scalar: TypeAlias = Any
"""int, Fraction, Gaussian, mpf or mpc. mpmath has no types, and must not be imported to name them."""

_GUARD_DIGITS = 15
_MAX_MAGNITUDE_BITS = 2_000_000
_loaded = threading.Event()


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A complex number of exact parts; `im` is never 0."""

    re: Exact
    im: Exact


def is_exact(value: Scalar) -> bool:
    """Whether it is an int, Fraction or Gaussian."""
    return type(value) is int or type(value) is Fraction or type(value) is Gaussian


def reduced(value: Exact) -> Exact:
    """A Fraction that is an integer as one."""
    return value.numerator if type(value) is Fraction and value.denominator == 1 else value


def integer(value: Scalar, what: str) -> int:
    """`value` as an int. Raises InvalidArgument naming `what` otherwise."""
    if type(value) is int:
        return value
    raise InvalidArgument(f"{what} must be an exact integer")


def exact_root(value: Exact, degree: int) -> Exact | None:
    """The real `degree`-th root of a value >= 0 if it is rational, else None."""
    if type(value) is Fraction:
        over, under = exact_root(value.numerator, degree), exact_root(value.denominator, degree)
        return None if over is None or under is None else Fraction(int(over), int(under))
    number = int(value)
    if degree == 2:
        root = isqrt(number)
    elif degree > number.bit_length():
        root = min(number, 1)
    else:
        root = 1 << -(-number.bit_length() // degree)
        while (better := ((degree - 1) * root + number // root ** (degree - 1)) // degree) < root:
            root = better
    return root if root**degree == number else None


def _bits(value: Exact) -> int:
    if type(value) is int:
        return value.bit_length()
    return max(value.numerator.bit_length(), value.denominator.bit_length())


class Arithmetic:
    """Operations on scalars for one evaluation.

    digits: significant decimal digits asked for; inexact work carries 15 more.
    """

    def __init__(self, meter: Meter, digits: int) -> None:
        self.meter = meter
        self.digits = digits
        self._context: Any = None

    @property
    def mp(self) -> Any:
        """The mpmath context of this evaluation. Its first use in a process costs about 0.1 s."""
        if self._context is None:
            if not _loaded.is_set():
                self.meter.leave_loop()
                with self.meter.paused():
                    from mpmath.ctx_mp import MPContext
                _loaded.set()
            from mpmath.ctx_mp import MPContext

            self.meter.charge(300)
            self._context = MPContext()
            self._context.dps = self.digits + _GUARD_DIGITS
        return self._context

    def inexact(self, value: Scalar) -> Scalar:
        """`value` as a number of mpmath, rounded to the working precision."""
        mp = self.mp
        if type(value) is int:
            return mp.mpf(value)
        if type(value) is Fraction:
            return mp.mpf(value.numerator) / value.denominator
        if type(value) is Gaussian:
            return mp.mpc(self.inexact(value.re), self.inexact(value.im))
        return value

    def checked(self, value: Scalar) -> Scalar:
        """A result, if it is within the limits; a complex one without imaginary part as real."""
        kind = type(value)
        if kind is int or kind is Fraction:
            if _bits(value) > MAX_BITS:
                raise too_many_digits()
            return reduced(value)
        if kind is Gaussian:
            return value
        if hasattr(value, "_mpc_"):
            if value.imag == 0:
                return self.checked(value.real)
            # A part below the rounding error of the other is none: e^(i pi) is -1.
            if value.real and abs(gap := self.mp.mag(value.real) - self.mp.mag(value.imag)) > self.mp.prec - 12:
                return self.checked(value.real) if gap > 0 else self.mp.mpc(0, self.checked(value.imag))
            return self.mp.mpc(self.checked(value.real), self.checked(value.imag))
        _, mantissa, exponent, size = value._mpf_
        if not mantissa:
            if exponent:
                raise InvalidArgument("the result is infinite or undefined here")
            return value
        if abs(exponent + size) > _MAX_MAGNITUDE_BITS:
            raise ResourceExhausted(
                f"a number in this expression is beyond 10^±{_MAX_MAGNITUDE_BITS * 3 // 10}, the limit"
            )
        return value

    def call(self, name: str, *values: Scalar, cost_us: int | None = None) -> Scalar:
        """The function `name` of mpmath, on magnitudes it can take."""
        self.meter.charge((30 + self.digits // 2) if cost_us is None else cost_us)
        arguments = [self.inexact(value) for value in values]
        for argument in arguments:
            if self.mp.isfinite(argument) and argument and self.mp.mag(argument) > 4096:
                raise ResourceExhausted(f"{name} takes arguments up to 2^4096 in size; this one is larger")
        return self._run(lambda: getattr(self.mp, name)(*arguments), name)

    def _run(self, work: Callable[[], Scalar], name: str) -> Scalar:
        try:
            return self.checked(work())
        except (ValueError, ZeroDivisionError, ArithmeticError, NotImplementedError) as error:
            detail = "; ".join(str(error).split("\n"))[:120]
            raise InvalidArgument(f"{name} is not defined or does not converge here ({detail})") from None

    def add(self, left: Scalar, right: Scalar) -> Scalar:
        if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
            self.meter.charge_bits(_bits(left) + _bits(right))
            return self.checked(left + right)
        if is_exact(left) and is_exact(right):
            (a, b), (c, d) = _parts(left), _parts(right)
            return self._gaussian(self.add(a, c), self.add(b, d))
        a, b = self.inexact(left), self.inexact(right)
        self.meter.charge(3)
        total = a + b
        # What is smaller than the rounding error of its operands is nothing: sqrt(2)^2 - 2 is 0.
        if total and self.mp.mag(total) < max(self.mp.mag(a), self.mp.mag(b)) - self.mp.prec + 12:
            return self.mp.mpf(0)
        return self.checked(total)

    def negate(self, value: Scalar) -> Scalar:
        return Gaussian(-value.re, -value.im) if type(value) is Gaussian else -value

    def multiply(self, left: Scalar, right: Scalar) -> Scalar:
        if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
            self.meter.charge_bits(_bits(left) + _bits(right))
            return self.checked(left * right)
        if is_exact(left) and is_exact(right):
            (a, b), (c, d) = _parts(left), _parts(right)
            times = self.multiply
            return self._gaussian(self.add(times(a, c), -times(b, d)), self.add(times(a, d), times(b, c)))
        self.meter.charge(3)
        return self.checked(self.inexact(left) * self.inexact(right))

    def divide(self, left: Scalar, right: Scalar) -> Scalar:
        if not right:
            raise InvalidArgument("division by zero")
        if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
            self.meter.charge_bits(_bits(left) + _bits(right))
            return self.checked(Fraction(left) / right)
        if is_exact(left) and is_exact(right):
            if type(right) is not Gaussian:
                return self.multiply(left, Fraction(1) / right)
            norm = self.add(self.multiply(right.re, right.re), self.multiply(right.im, right.im))
            inverse = Gaussian(self.divide(right.re, norm), self.divide(-right.im, norm))
            return self.multiply(left, inverse)
        self.meter.charge(5)
        return self.checked(self.inexact(left) / self.inexact(right))

    def power(self, base: Scalar, exponent: Scalar) -> Scalar:
        """Exact for an integer exponent and for a rational root of a rational; refused before it is large."""
        if not base and is_exact(base) and isinstance(exponent, (int, Fraction)):
            if exponent < 0:
                raise InvalidArgument("division by zero: 0 to a negative power")
            return 0 if exponent else 1
        if is_exact(base) and type(exponent) is int:
            return self._integer_power(base, exponent)
        rooted = isinstance(base, (int, Fraction)) and type(exponent) is Fraction and base > 0
        if rooted and exponent.denominator <= 1000:
            self.meter.charge_bits(2 * _bits(base))
            root = exact_root(base, exponent.denominator)
            if root is not None:
                return self._integer_power(root, exponent.numerator)
        a, b = self.inexact(base), self.inexact(exponent)
        if a and b and self.mp.mag(self.mp.log(abs(a)) or 1) + self.mp.mag(b) > 22:
            raise ResourceExhausted(
                "this power would be beyond 10^±600000, the limit of inexact numbers; use a smaller exponent"
            )
        self.meter.charge(40 + self.digits // 2)
        return self._run(lambda: a**b, "power")

    def _integer_power(self, base: Scalar, exponent: int) -> Scalar:
        if type(base) is Gaussian:
            size = max(_bits(base.re), _bits(base.im)) + 1
        else:
            size = 0 if base in (1, -1) else _bits(base)
        if size * abs(exponent) > MAX_BITS + size or abs(exponent) > 10**400:
            raise too_many_digits()
        self.meter.charge_bits(size * abs(exponent))
        if type(base) is not Gaussian:
            if exponent >= 0:
                return self.checked(base**exponent) if size else (base if exponent % 2 else 1)
            return self.checked(Fraction(base) ** exponent) if size else (base if exponent % 2 else 1)
        result: Scalar = 1
        square: Scalar = base
        for bit in bin(abs(exponent))[:1:-1]:
            result = self.multiply(result, square) if bit == "1" else result
            square = self.multiply(square, square)
        return self.divide(1, result) if exponent < 0 else result

    def compare(self, left: Scalar, right: Scalar) -> int:
        """-1, 0 or 1. Raises InvalidArgument for complex numbers that differ."""
        difference = self.add(left, self.negate(right))
        if not difference:
            return 0
        if type(difference) is Gaussian or hasattr(difference, "_mpc_"):
            raise InvalidArgument("complex numbers have no order; compare abs(), re() or im()")
        return 1 if difference > 0 else -1

    def _gaussian(self, re: Exact, im: Exact) -> Scalar:
        return Gaussian(re, im) if im else re


def _parts(value: Exact | Gaussian) -> tuple[Exact, Exact]:
    return (value.re, value.im) if type(value) is Gaussian else (value, 0)  # type: ignore[return-value]
