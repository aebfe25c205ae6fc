"""The calculator as its callers meet it: answers, limits, and what it never does."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import time
from decimal import Context as DecimalContext
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import DeadlineExceeded, InvalidArgument, NotFound, ResourceExhausted, SmolError
from smol.sdk import Context
from smol.sdk.context import Environment
from smol.units.math import matrices
from smol.units.math.functions import CONSTANTS, FUNCTIONS
from smol.units.math.limits import MAX_SECONDS, Meter
from smol.units.math.unit import Evaluation, Math

mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("cases.json").read_text())
ENVIRONMENT = Environment(unit="math", log=logging.getLogger("math"), data_dir=None, cache_dir=None)


def evaluate(expression: str, *, deadline_seconds: float | None = None, **arguments: Any) -> Evaluation:
    deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
    return asyncio.run(Math().evaluate(expression, Context(ENVIRONMENT, deadline=deadline), **arguments))


@pytest.mark.parametrize("case", CASES, ids=[case["expression"] for case in CASES])
def test_an_answer_agrees_with_another_program(case: dict[str, Any]) -> None:
    expected = Decimal(case["answer"].split()[0])
    found = Decimal(evaluate(case["expression"]).decimal.split()[0])
    close = Decimal("1e-44") if case["oracle"] in ("bc", "sympy") else Decimal("1e-13")
    assert abs(found - expected) <= close * max(abs(expected), Decimal(1))


def test_the_table_is_large() -> None:
    assert len(CASES) >= 400


@pytest.mark.parametrize(
    ("expression", "exact", "kind"),
    [
        ("2/3 + 1e-30", "2000000000000000000000000000003/3000000000000000000000000000000", "rational"),
        ("6/3", "2", "integer"),
        ("(1+2i)*(3-i)", "5 + 5i", "complex"),
        ("i^2", "-1", "integer"),
        ("27^(2/3)", "9", "integer"),
        ("3 ft + 2 cm to m", "584/625 m", "quantity"),
        ("3 in in cm", "381/50 cm", "quantity"),
        ("1/2 m", "1/2 m", "quantity"),
        ("10 m / 2 s", "5 m/s", "quantity"),
        ("3 m / 2 m", "3/2", "rational"),
        ("[1,2;3,4]*[1,2]", "[5, 11]", "vector"),
        ("inv([1,2;3,4])", "[[-2, 1], [3/2, -1/2]]", "matrix"),
        ("[5, 6, 7][2]", "6", "integer"),
        ("f(x) = x^2; f(3)", "9", "integer"),
        ("f(n) = if(n < 2, 1, n f(n-1)); f(10)", "3628800", "integer"),
        ("1/3 == 2/6 and not 1 > 2", "true", "boolean"),
        ("factor(360)", "[2, 2, 2, 3, 3, 5]", "vector"),
        ("sqrt(2)", None, "real"),
        ("sqrt(-4)", "2i", "complex"),
        ("240 + 15% - 3", "273", "integer"),
    ],
)
def test_the_exact_form_and_the_type(expression: str, exact: str | None, kind: str) -> None:
    result = evaluate(expression)
    assert (result.exact, result.type) == (exact, kind)


def test_what_is_below_the_rounding_error_is_zero() -> None:
    assert [evaluate(text).decimal for text in ("sqrt(2)^2 - 2", "sin(pi)", "e^(i*pi) + 1")] == ["0", "0", "0"]
    assert evaluate("exp(-200)").decimal.startswith("1.3838965267367")


def test_variables_are_expressions_of_the_caller() -> None:
    assert evaluate("a*b", variables={"a": "1/3", "b": "6"}).exact == "2"
    with pytest.raises(InvalidArgument, match="variable's name"):
        evaluate("1", variables={"a b": "1"})


def test_every_function_and_constant_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs/reference/math.md").read_text()
    missing = [name for name in [*FUNCTIONS, *matrices.FUNCTIONS, *CONSTANTS] if f"`{name}`" not in page]
    assert missing == []


def test_latex_is_given_for_exact_values() -> None:
    assert evaluate("-2/3").latex == r"-\frac{2}{3}"
    assert evaluate("pi").latex is None


def _matrix_text(side: int, digits: int, around: str) -> str:
    rows = (",".join(str((7 ** (40 + i * side + j)) % 10**digits) for j in range(side)) for i in range(side))
    return around.format(f"[{';'.join(rows)}]")


HOSTILE = [
    "9**9**9", "factorial(10**8)", "(1/3)^(1e9)", "(" * 100_000 + "1" + ")" * 100_000, "1+" * 600_000 + "1",
    "-" * 10_000 + "1", "1" + "!" * 5000, "1e999999999", "identity(10^6)", "range(1, 10^9)", "exp(exp(exp(100)))",
    "f(x) = f(x+1); f(0)", "f(n) = if(n<1, 1, f(n-1)+f(n-1)); f(40)", "binomial(10^9, 10^8)", "2^(10^100)",
    "0.1^(-10^30)", "fibonacci(10^12)", "zeta(0.5 + 999i)^zeta(0.5+998i)", "sin(10^9999)", "isprime(10^4000+1)",
    "factor(2^79 - 67)", "lcm(range(1, 10000))", "identity(100)^9999", "gamma(10^9 + 0.5)", "2^2" + "^2" * 90,
    "x = [1,2]; x[10^50]", "tanh(10^200)", "permutations(10^9, 10^6)", "(2+i)^(10^9)", "nextprime(10^25)",
    "inv(identity(100))", "identity(100)*identity(100)", "range(1, 10000)*range(1, 10000)",
    "powmod(2, 10^9999, 10^5000+1)",
    "2^(10^9) mod 7", "nextprime(3317044064679887385961979)", "factor(3317044064679887385961813*3)",
    "1 " + "m " * 3000,
    "*".join(["km"] * 3000), "x = 1 m; " + "x = x*x; " * 300, "a = 2; " + "a = a*a; " * 400 + "a",
    "m^100*m^100*m^100",
    "+".join(f"1/{10**6 + n}" for n in range(1400)), "*".join(f"{10**6 + n}/{10**6 - n}" for n in range(1, 700)),
    "gamma(9999.5)", "besselj(0.5+99i, 4000)", "bessely(1000, 0.001)", "zeta(0.99999)", "sin(range(1, 10000))",
    "stdev(range(1, 10000))", "x = 3248!; y = x/(x+1); y+y", "[" * 90 + "1" + "]" * 90, "1" * 1_048_576,
    "f(n) = if(n<1, 0, f(n-1)+f(n-2)+f(n-3)); f(60)", "log(" + "9" * 9000 + ", 333)", "root(2^33000+1, 3)",
    _matrix_text(20, 15, "inv({})"), _matrix_text(25, 20, "det({})"), _matrix_text(12, 20, "({})^500"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("precision", [50, 1000])
@pytest.mark.parametrize("expression", HOSTILE, ids=[text[:30] for text in HOSTILE])
def test_a_hostile_expression_ends_at_its_bound_of_work(expression: str, precision: int) -> None:
    evaluate("sqrt(2)")  # Loading mpmath is not the expression's time.
    gc.collect()  # Nor is what earlier tests left behind.
    started = time.thread_time()
    try:
        evaluate(expression, precision=precision)
    except SmolError as error:
        assert error.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    # Room for a measuring of coverage and a busy machine; unbounded, most of these take minutes or for ever.
    assert time.thread_time() - started < 5 * MAX_SECONDS


def test_the_limit_of_time_survives_a_callback_of_the_collector() -> None:
    class Loud:
        def __del__(self) -> None:
            time.thread_time()

    meter = Meter(inline=False)
    with pytest.raises(ResourceExhausted), meter:
        until = time.thread_time() + 1
        while time.thread_time() < until:
            Loud()
            mpmath.mpf(1).sqrt()


@pytest.mark.parametrize(
    ("expression", "error", "said"),
    [
        ("(" * 101 + "1" + ")" * 101, InvalidArgument, "limit of 100"),
        ("1" * 20_000, InvalidArgument, "limit is 16384"),
        ("10^10001", ResourceExhausted, "10000 digits"),
        ("1/0", InvalidArgument, "division by zero"),
        ("2 3", InvalidArgument, "unexpected '3' at position 3"),
        ("", InvalidArgument, "empty"),
        ("flor(2)", NotFound, "did you mean 'floor'"),
        ("3 ft to kg", InvalidArgument, "measure different things"),
        ("20 degC + 5 degC", InvalidArgument, "absolute temperatures"),
        ("[1,2]+[1]", InvalidArgument, "don't fit"),
        ("inv([1,2;2,4])", InvalidArgument, "singular"),
        ("sqrt(1,2)", InvalidArgument, "takes 1 argument"),
        ("__import__('os')", InvalidArgument, "unexpected"),
    ],
)
def test_an_error_says_what_was_wrong(expression: str, error: type[SmolError], said: str) -> None:
    with pytest.raises(error, match=said):
        evaluate(expression)


def test_the_deadline_of_the_call_ends_it() -> None:
    with pytest.raises(DeadlineExceeded):
        evaluate("zeta(0.5 + 999i)", precision=1000, deadline_seconds=0.02)


def test_a_plain_expression_loads_no_heavy_library() -> None:
    program = (
        "import asyncio, logging, sys\n"
        "from smol.sdk.context import Context, Environment\n"
        "from smol.units.math.unit import Math\n"
        "e = Environment(unit='math', log=logging.getLogger(), data_dir=None, cache_dir=None)\n"
        "print(asyncio.run(Math().evaluate('2/3 + 1e-30', Context(e))).decimal)\n"
        "print([name for name in ('mpmath', 'sympy', 'numpy') if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[1] == "[]"


@given(st.fractions(max_denominator=10**12), st.fractions(max_denominator=10**12), st.sampled_from("+-*/"))
def test_fractions_are_exact(left: Fraction, right: Fraction, operator: str) -> None:
    if operator == "/" and not right:
        return
    expected = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
    assert evaluate(f"({left}){operator}({right})").exact == str(expected)


_decimals = st.decimals(min_value=-(10**9), max_value=10**9, places=6)


@given(_decimals, _decimals, st.sampled_from("+-*/"), st.integers(5, 60))
def test_rounding_is_that_of_decimal(left: Decimal, right: Decimal, operator: str, precision: int) -> None:
    if operator == "/" and not right:
        return
    context = DecimalContext(prec=precision)
    work = {"+": context.add, "-": context.subtract, "*": context.multiply, "/": context.divide}[operator]
    assert Decimal(evaluate(f"({left:f}){operator}({right:f})", precision=precision).decimal) == work(left, right)


@given(st.decimals(min_value="1e-6", max_value=10**6, places=6), st.integers(10, 60))
def test_roots_logarithms_and_exponentials_are_those_of_decimal(value: Decimal, precision: int) -> None:
    context = DecimalContext(prec=precision)
    small = value / 10**5
    for expression, expected in (
        (f"sqrt({value:f})", context.sqrt(value)),
        (f"ln({value:f})", context.ln(value)),
        (f"exp({small:f})", context.exp(small)),
    ):
        found = Decimal(evaluate(expression, precision=precision).decimal)
        assert abs(found - expected) <= abs(expected) * Decimal(10) ** (1 - precision)


@given(st.fractions(max_denominator=10**6), st.integers(-40, 40))
def test_powers_of_fractions_are_exact(base: Fraction, exponent: int) -> None:
    if base or exponent >= 0:
        assert evaluate(f"({base})^({exponent})").exact == str(Fraction(base) ** exponent)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**15), max_value=10**15))
def test_a_printed_decimal_reads_back(value: Decimal) -> None:
    assert Decimal(evaluate(str(value)).decimal) == value


_PIECES = ["1", "2.5", "x", "sin", "(", ")", "[", "]", ",", ";", "+", "-", "*", "/", "^", "%", "!", " to ", " in ",
           "ft", "m", "degC", " of ", "=", "==", "i", "pi", "sum", "if", "det",
           "1e9", " mod ", " and ", "°", "²"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)))
def test_any_text_gives_an_answer_or_an_error_of_ours(text: str) -> None:
    try:
        result = evaluate(text)
    except SmolError as error:
        assert error.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND")
    else:
        assert result.decimal
