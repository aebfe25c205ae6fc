"""The functions and constants of scalars, and of lists of them. A table; `evaluator` calls it.

Exact arguments give exact results where there are any; what is not exact is mpmath's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from smol.errors import InvalidArgument, ResourceExhausted
from smol.units.math.arithmetic import Arithmetic, Exact, Gaussian, Scalar, exact_root, integer, is_exact, reduced
from smol.units.math.limits import MAX_BITS, too_many_digits
from smol.units.math.primes import divisors, factors, is_prime, next_prime, totient

__all__ = ["CONSTANTS", "FUNCTIONS", "Function"]

Work = Callable[..., Any]


class Function:
    """least, most: number of arguments; most None for any. listed: takes its arguments as one list.

    about: one line for the reference page.
    """

    __slots__ = ("about", "least", "listed", "most", "work")

    def __init__(self, work: Work, least: int, most: int | None, about: str, *, listed: bool = False) -> None:
        self.work, self.least, self.most, self.about, self.listed = work, least, most, about, listed


def _mp(name: str, exact_at: dict[int, int] | None = None, cost_us: int | None = None) -> Work:
    table = exact_at or {}

    def work(a: Arithmetic, *values: Scalar) -> Scalar:
        if len(values) == 1 and type(values[0]) is int and values[0] in table:
            return table[values[0]]
        return a.call(name, *values, cost_us=cost_us)

    return work


def _periodic(name: str, exact_at: dict[int, int]) -> Work:
    plain = _mp(name, exact_at)

    def work(a: Arithmetic, value: Scalar) -> Scalar:
        result = plain(a, value)
        # Below the rounding error of an inexact argument a sine is zero: sin(pi) is 0.
        if not is_exact(value) and result and a.mp.mag(result) < a.mp.mag(value) - a.mp.prec + 12:
            return a.mp.mpf(0)
        return result

    return work


def _growing(name: str, exact_at: dict[int, int]) -> Work:
    plain = _mp(name, exact_at)

    def work(a: Arithmetic, value: Scalar) -> Scalar:
        if not is_exact(value) or value not in exact_at:
            number = a.inexact(value)
            if number and a.mp.mag(number) > 20:
                raise ResourceExhausted(f"{name} takes arguments up to 2^20 in size, the limit")
        return plain(a, value)

    return work


def real(value: Scalar, what: str) -> Scalar:
    """`value` if it is real. Raises InvalidArgument."""
    if type(value) is Gaussian or hasattr(value, "_mpc_"):
        raise InvalidArgument(f"{what} takes real numbers only")
    return value


def _sqrt(a: Arithmetic, value: Scalar) -> Scalar:
    if isinstance(value, (int, Fraction)):
        root = exact_root(value if value >= 0 else -value, 2)
        if root is not None:
            return root if value >= 0 else Gaussian(0, root)
    return a.call("sqrt", value)


def _root(a: Arithmetic, value: Scalar, degree: Scalar = 3) -> Scalar:
    n = integer(degree, "the degree of a root")
    if not 1 <= n <= 1000:
        raise InvalidArgument(f"the degree of a root is 1 to 1000, not {n}")
    if isinstance(value, (int, Fraction)) and (value >= 0 or n % 2):
        sign = 1 if value >= 0 else -1
        root = exact_root(value if value >= 0 else -value, n)
        return sign * root if root is not None else sign * a.call("root", abs(value), n)
    return a.call("root", value, n)


def _log(a: Arithmetic, value: Scalar, base: Scalar | None = None) -> Scalar:
    if not value:
        raise InvalidArgument("the logarithm of 0 is not defined")
    if value == 1:
        return 0
    if base is None:
        return a.call("log", value)
    if base == 0 or base == 1:
        raise InvalidArgument("the base of a logarithm is neither 0 nor 1")
    if isinstance(value, (int, Fraction)) and isinstance(base, (int, Fraction)) and value > 0 and base > 0:
        guess = round((_bits_of(value)) / (_bits_of(base) or 1e-9))
        for power in range(guess - 2, guess + 3):
            if (
                abs(power) < 40_000
                and abs(power) * abs(_bits_of(base)) < MAX_BITS
                and Fraction(base) ** power == value
            ):
                return power
    return a.divide(a.call("log", value), a.call("log", base))


def _bits_of(value: Exact) -> float:
    return math.log2(value.numerator) - math.log2(value.denominator)


def _abs(a: Arithmetic, value: Scalar) -> Scalar:
    if type(value) is Gaussian:
        return _sqrt(a, a.add(a.multiply(value.re, value.re), a.multiply(value.im, value.im)))
    return abs(value)


def _rounded(name: str) -> Work:
    def work(a: Arithmetic, value: Scalar) -> int:
        value = real(value, name)
        if not is_exact(value):
            if value and a.mp.mag(value) > MAX_BITS:
                raise too_many_digits()
            man, exp = value.man_exp
            value = man << exp if exp >= 0 else Fraction(man, 1 << min(-exp, 4 * MAX_BITS))
        if name == "round":
            return int(math.floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1))
        return int(getattr(math, name)(value))

    return work


def _round(a: Arithmetic, value: Scalar, places: Scalar = 0) -> Exact:
    n = integer(places, "the number of decimals")
    if abs(n) > 1000:
        raise InvalidArgument(f"round takes -1000 to 1000 decimals, not {n}")
    scale = Fraction(10) ** n
    return reduced(Fraction(_rounded("round")(a, a.multiply(value, scale))) / scale)


def _sign(a: Arithmetic, value: Scalar) -> int:
    return a.compare(real(value, "sign"), 0)


def _mod(a: Arithmetic, left: Scalar, right: Scalar) -> Scalar:
    left, right = real(left, "mod"), real(right, "mod")
    if not right:
        raise InvalidArgument("division by zero in mod")
    if is_exact(left) and is_exact(right):
        return reduced(left % right)
    return a.checked(a.inexact(left) % a.inexact(right))


def _factorial(a: Arithmetic, value: Scalar) -> Scalar:
    if type(value) is not int:
        return _gamma(a, a.add(value, 1))
    if value < 0:
        raise InvalidArgument(f"factorial takes integers from 0, not {value}")
    if value > 3248:
        raise too_many_digits()
    a.meter.charge(value // 4)
    return math.factorial(value)


def _gamma(a: Arithmetic, value: Scalar) -> Scalar:
    if type(value) is int:
        if value <= 0:
            raise InvalidArgument(f"gamma has a pole at {value}")
        return _factorial(a, value - 1)
    return _bounded("gamma", 10_000, 400)(a, value)


def _bounded(name: str, largest: int, cost_us: int) -> Work:
    """A special function whose time grows with its argument."""

    def work(a: Arithmetic, *values: Scalar) -> Scalar:
        for value in values:
            if a.compare(_abs(a, value), largest) > 0:
                raise ResourceExhausted(f"{name} takes arguments up to {largest} in size, the limit")
        return a.call(name, *values, cost_us=cost_us + a.digits * a.digits // 10)

    return work


def _binomial(a: Arithmetic, n: Scalar, k: Scalar) -> int:
    n, k = integer(n, "n of binomial"), integer(k, "k of binomial")
    if k < 0 or 0 <= n < k:
        return 0
    if n < 0:
        return _binomial(a, k - n - 1, k) * (-1 if k % 2 else 1)
    k = min(k, n - k)
    if k * (n.bit_length() + 1) > 2 * MAX_BITS and k > 20_000:
        raise too_many_digits()
    if k and n.bit_length() > MAX_BITS // k + k.bit_length() + 1:
        raise too_many_digits()
    a.meter.charge(1 + k * (1 + n.bit_length() // 32))
    return math.comb(n, k)


def _permutations(a: Arithmetic, n: Scalar, k: Scalar | None = None) -> int:
    n = integer(n, "n of permutations")
    k = n if k is None else integer(k, "k of permutations")
    if n < 0 or k < 0:
        raise InvalidArgument("permutations takes integers from 0")
    if k > n:
        return 0
    if k * n.bit_length() > MAX_BITS * 2:
        raise too_many_digits()
    a.meter.charge(1 + k)
    return math.perm(n, k)


def _fibonacci(a: Arithmetic, value: Scalar) -> int:
    n = integer(value, "fibonacci's argument")
    if n < 0:
        raise InvalidArgument("fibonacci takes integers from 0")
    if n > 47_000:
        raise too_many_digits()
    a.meter.charge(n // 50)
    x, y = 0, 1
    for bit in bin(n)[2:]:
        x, y = x * (2 * y - x), x * x + y * y
        if bit == "1":
            x, y = y, x + y
    return x


def _integers(name: str, fold: Callable[..., int]) -> Work:
    def work(a: Arithmetic, values: list[Scalar]) -> int:
        numbers = [integer(value, f"each argument of {name}") for value in values]
        a.meter.charge(len(numbers) + sum(number.bit_length() for number in numbers) // 20)
        if name == "lcm" and sum(number.bit_length() for number in numbers) > 2 * MAX_BITS:
            raise too_many_digits()
        return fold(*numbers)

    return work


def _powmod(a: Arithmetic, base: Scalar, exponent: Scalar, modulus: Scalar) -> int:
    x, n, m = (integer(value, "each argument of powmod") for value in (base, exponent, modulus))
    if not m:
        raise InvalidArgument("powmod needs a modulus other than 0")
    a.meter.charge(1 + n.bit_length() * (1 + (m.bit_length() // 64) ** 2) // 8)
    try:
        return pow(x, n, m)
    except ValueError:
        raise InvalidArgument(f"{x} has no inverse modulo {m}") from None


def _extreme(sign: int) -> Work:
    def work(a: Arithmetic, values: list[Scalar]) -> Scalar:
        best = real(values[0], "min and max")
        for value in values[1:]:
            if a.compare(value, best) * sign > 0:
                best = value
        return best

    return work


def _sum(a: Arithmetic, values: list[Scalar]) -> Scalar:
    total: Scalar = 0
    for value in values:
        total = a.add(total, value)
    return total


def _product(a: Arithmetic, values: list[Scalar]) -> Scalar:
    total: Scalar = 1
    for value in values:
        total = a.multiply(total, value)
    return total


def _mean(a: Arithmetic, values: list[Scalar]) -> Scalar:
    return a.divide(_sum(a, values), len(values))


def _sorted(a: Arithmetic, values: list[Scalar]) -> list[Scalar]:
    a.meter.charge(len(values) * (1 + len(values).bit_length()))
    return sorted(real(value, "sorting") for value in values)


def _median(a: Arithmetic, values: list[Scalar]) -> Scalar:
    ordered = _sorted(a, values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else _mean(a, ordered[middle - 1 : middle + 1])


def _mode(a: Arithmetic, values: list[Scalar]) -> Scalar:
    a.meter.charge(len(values))
    counts: dict[Scalar, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return max(counts, key=lambda value: counts[value])


def _variance(population: bool) -> Work:
    def work(a: Arithmetic, values: list[Scalar]) -> Scalar:
        count = len(values) - (not population)
        if count < 1:
            raise InvalidArgument("a sample variance needs at least 2 values")
        mean = _mean(a, values)
        deviations = [a.add(real(value, "variance"), a.negate(mean)) for value in values]
        return a.divide(_sum(a, [a.multiply(value, value) for value in deviations]), count)

    return work


def _deviation(population: bool) -> Work:
    return lambda a, values: _sqrt(a, _variance(population)(a, values))


def _part(name: str) -> Work:
    def work(a: Arithmetic, value: Scalar) -> Scalar:
        if type(value) is Gaussian:
            return value.re if name == "re" else value.im
        return getattr(a.mp, name)(value) if hasattr(value, "_mpc_") else (value if name == "re" else 0)

    return work


def _conjugate(a: Arithmetic, value: Scalar) -> Scalar:
    return Gaussian(value.re, -value.im) if type(value) is Gaussian else value.conjugate()


def _number_theory(work: Callable[..., Any]) -> Work:
    return lambda a, value: work(integer(value, "the argument"), a.meter)


_ZERO = {0: 0}
_ONE = {0: 1}

FUNCTIONS: dict[str, Function] = {
    "sqrt": Function(_sqrt, 1, 1, "square root; exact for squares"),
    "cbrt": Function(_root, 1, 1, "cube root; real for negative numbers"),
    "root": Function(_root, 2, 2, "root(x, n): n-th root; real for odd n"),
    "exp": Function(_growing("exp", _ONE), 1, 1, "e to the power x"),
    "ln": Function(_log, 1, 1, "natural logarithm"),
    "log": Function(_log, 1, 2, "log(x): natural; log(x, base)"),
    "log2": Function(lambda a, x: _log(a, x, 2), 1, 1, "logarithm to base 2"),
    "log10": Function(lambda a, x: _log(a, x, 10), 1, 1, "logarithm to base 10"),
    "sin": Function(_periodic("sin", _ZERO), 1, 1, "sine, of radians"),
    "cos": Function(_periodic("cos", _ONE), 1, 1, "cosine"),
    "tan": Function(_periodic("tan", _ZERO), 1, 1, "tangent"),
    "cot": Function(_mp("cot"), 1, 1, "cotangent"),
    "sec": Function(_mp("sec", _ONE), 1, 1, "secant"),
    "csc": Function(_mp("csc"), 1, 1, "cosecant"),
    "asin": Function(_mp("asin", _ZERO), 1, 1, "inverse sine, in radians"),
    "acos": Function(_mp("acos", {1: 0}), 1, 1, "inverse cosine"),
    "atan": Function(_mp("atan", _ZERO), 1, 1, "inverse tangent"),
    "atan2": Function(_mp("atan2"), 2, 2, "atan2(y, x): angle of the point (x, y)"),
    "sinh": Function(_growing("sinh", _ZERO), 1, 1, "hyperbolic sine"),
    "cosh": Function(_growing("cosh", _ONE), 1, 1, "hyperbolic cosine"),
    "tanh": Function(_growing("tanh", _ZERO), 1, 1, "hyperbolic tangent"),
    "asinh": Function(_mp("asinh", _ZERO), 1, 1, "inverse hyperbolic sine"),
    "acosh": Function(_mp("acosh", {1: 0}), 1, 1, "inverse hyperbolic cosine"),
    "atanh": Function(_mp("atanh", _ZERO), 1, 1, "inverse hyperbolic tangent"),
    "abs": Function(_abs, 1, 1, "absolute value, or modulus of a complex number"),
    "sign": Function(_sign, 1, 1, "-1, 0 or 1"),
    "floor": Function(_rounded("floor"), 1, 1, "largest integer not above x"),
    "ceil": Function(_rounded("ceil"), 1, 1, "smallest integer not below x"),
    "trunc": Function(_rounded("trunc"), 1, 1, "x without its decimals"),
    "round": Function(_round, 1, 2, "round(x), round(x, decimals); halves away from zero"),
    "mod": Function(_mod, 2, 2, "remainder with the sign of the divisor"),
    "re": Function(_part("re"), 1, 1, "real part"),
    "im": Function(_part("im"), 1, 1, "imaginary part"),
    "arg": Function(_mp("arg"), 1, 1, "angle of a complex number"),
    "conj": Function(_conjugate, 1, 1, "complex conjugate"),
    "factorial": Function(_factorial, 1, 1, "factorial, also written n!"),
    "binomial": Function(_binomial, 2, 2, "binomial(n, k): n choose k"),
    "permutations": Function(_permutations, 1, 2, "permutations(n, k)"),
    "fibonacci": Function(_fibonacci, 1, 1, "n-th Fibonacci number"),
    "catalan": Function(
        lambda a, n: a.divide(_binomial(a, 2 * integer(n, "n"), n), n + 1), 1, 1, "n-th Catalan number"
    ),
    "gcd": Function(_integers("gcd", math.gcd), 1, None, "greatest common divisor", listed=True),
    "lcm": Function(_integers("lcm", math.lcm), 1, None, "least common multiple", listed=True),
    "powmod": Function(_powmod, 3, 3, "powmod(x, n, m): x^n modulo m"),
    "modinv": Function(lambda a, x, m: _powmod(a, x, -1, m), 2, 2, "modinv(x, m): inverse of x modulo m"),
    "isqrt": Function(
        lambda a, n: _rounded("floor")(a, _sqrt(a, n)) if type(n) is not int or n < 0 else math.isqrt(n),
        1,
        1,
        "integer square root",
    ),
    "isprime": Function(_number_theory(is_prime), 1, 1, "whether n is prime, for |n| < 3·10^24"),
    "nextprime": Function(_number_theory(next_prime), 1, 1, "smallest prime above n"),
    "factor": Function(_number_theory(factors), 1, 1, "prime factors in order"),
    "divisors": Function(_number_theory(divisors), 1, 1, "positive divisors in order"),
    "totient": Function(_number_theory(totient), 1, 1, "Euler's totient"),
    "gamma": Function(_gamma, 1, 1, "gamma function"),
    "lgamma": Function(_bounded("loggamma", 10**9, 400), 1, 1, "logarithm of gamma"),
    "digamma": Function(_bounded("digamma", 10_000, 400), 1, 1, "digamma function"),
    "beta": Function(_bounded("beta", 10_000, 800), 2, 2, "beta(x, y)"),
    "zeta": Function(_bounded("zeta", 1000, 2000), 1, 1, "Riemann zeta function"),
    "erf": Function(_bounded("erf", 1000, 200), 1, 1, "error function"),
    "erfc": Function(_bounded("erfc", 1000, 200), 1, 1, "complementary error function"),
    "besselj": Function(_bounded("besselj", 1000, 1000), 2, 2, "besselj(order, x)"),
    "bessely": Function(_bounded("bessely", 1000, 2000), 2, 2, "bessely(order, x)"),
    "airyai": Function(_bounded("airyai", 100, 1000), 1, 1, "Airy function Ai"),
    "lambertw": Function(_mp("lambertw", _ZERO, 500), 1, 1, "principal branch of Lambert's W"),
    "ei": Function(_bounded("ei", 1000, 1000), 1, 1, "exponential integral"),
    "ellipk": Function(_bounded("ellipk", 1000, 500), 1, 1, "complete elliptic integral of the first kind of m"),
    "ellipe": Function(_bounded("ellipe", 1000, 800), 1, 1, "complete elliptic integral of the second kind of m"),
    "agm": Function(_mp("agm"), 2, 2, "arithmetic-geometric mean"),
    "min": Function(_extreme(-1), 1, None, "smallest", listed=True),
    "max": Function(_extreme(1), 1, None, "largest", listed=True),
    "sum": Function(_sum, 1, None, "sum", listed=True),
    "product": Function(_product, 1, None, "product", listed=True),
    "mean": Function(_mean, 1, None, "arithmetic mean", listed=True),
    "median": Function(_median, 1, None, "median", listed=True),
    "mode": Function(_mode, 1, None, "most frequent value; the first of several", listed=True),
    "variance": Function(_variance(False), 1, None, "sample variance (n - 1)", listed=True),
    "pvariance": Function(_variance(True), 1, None, "population variance", listed=True),
    "stdev": Function(_deviation(False), 1, None, "sample standard deviation", listed=True),
    "pstdev": Function(_deviation(True), 1, None, "population standard deviation", listed=True),
    "sort": Function(_sorted, 1, None, "ascending order", listed=True),
}
FUNCTIONS |= {"nCr": FUNCTIONS["binomial"], "nPr": FUNCTIONS["permutations"], "std": FUNCTIONS["stdev"]}

CONSTANTS: dict[str, Callable[[Arithmetic], Any]] = {
    "pi": lambda a: +a.mp.pi,
    "π": lambda a: +a.mp.pi,
    "tau": lambda a: 2 * a.mp.pi,
    "e": lambda a: +a.mp.e,
    "phi": lambda a: +a.mp.phi,
    "euler_gamma": lambda a: +a.mp.euler,
    "catalan_g": lambda a: +a.mp.catalan,
    "i": lambda _: Gaussian(0, 1),
    "true": lambda _: True,
    "false": lambda _: False,
}
