"""Algebra as its callers meet it: answers that can be asked again, limits that hold, errors that help."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smol.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unimplemented,
)
from smol.sdk import Context
from smol.sdk.context import Environment
from smol.units.algebra.answers import Form, Solutions
from smol.units.algebra.child import CHILD_BYTES, compute
from smol.units.algebra.compute import perform
from smol.units.algebra.translation import CONSTANTS, FUNCTIONS
from smol.units.algebra.unit import Algebra
from smol.units.math.parser import parse_expression
from smol.units.math.unit import Math

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("cases.json").read_text())
ENVIRONMENT = Environment(unit="algebra", log=logging.getLogger("algebra"), data_dir=None, cache_dir=None)


@pytest.fixture(scope="module")
def algebra() -> Algebra:
    unit = Algebra()
    asyncio.run(unit.provision(Context(ENVIRONMENT)))
    return unit


@pytest.fixture(scope="module")
def algebra_here() -> Algebra:
    """Computes in this process, which is faster."""

    async def here(work: Callable[[], Any], kind: type, seconds: float | None) -> Any:
        return work()

    unit = Algebra(here)
    asyncio.run(unit.provision(Context(ENVIRONMENT)))
    return unit


def ask(unit: Algebra, operation: str, *, deadline_seconds: float = 30.0, **arguments: Any) -> Any:
    context = Context(ENVIRONMENT, deadline=time.monotonic() + deadline_seconds)
    return asyncio.run(getattr(unit, operation)(context=context, **arguments))


def evaluated(expression: str, variables: dict[str, str]) -> Decimal:
    context = Context(Environment(unit="math", log=logging.getLogger("math"), data_dir=None, cache_dir=None))
    return Decimal(asyncio.run(Math().evaluate(expression, context, variables=variables)).decimal)


def number_of(case: dict[str, Any], result: Any) -> Decimal:
    """What the case's answer is compared with: an answer's decimal form, or its exact form asked of math."""
    if isinstance(result, Solutions):
        name = result.variables[0]
        return max(Decimal(found.values[name].decimal or "nan") for found in result.solutions)
    if "between" in case:
        low, high = (evaluated(result.exact, {"x": point}) for point in case["between"])
        return high - low
    return Decimal(result.decimal) if case.get("decimal") else evaluated(result.exact, case["at"])


@pytest.mark.parametrize("case", CASES, ids=[f"{case['operation']} {case['arguments']}" for case in CASES])
def test_an_answer_agrees_with_another_program(algebra_here: Algebra, case: dict[str, Any]) -> None:
    expected = Decimal(case["answer"])
    found = number_of(case, ask(algebra_here, case["operation"], **case["arguments"]))
    assert abs(found - expected) <= Decimal(case["close"]) * max(abs(expected), Decimal(1))


@pytest.mark.parametrize(
    ("operation", "arguments", "exact", "kind"),
    [
        ("simplify", {"expression": "sqrt(x^2)", "assume": {"x": "real"}}, "abs(x)", "expression"),
        ("simplify", {"expression": "x > 1 and x > 2", "assume": {"x": "real"}}, "x > 2", "boolean"),
        ("simplify", {"expression": "240 + 15%"}, "276", "integer"),
        ("factor", {"expression": "x^2 + 1", "over": ["i"]}, "(x - i)*(x + i)", "expression"),
        ("factor", {"expression": "360"}, "2^3*3^2*5", "integer"),
        ("integrate", {"expression": "exp(-x^2)", "lower": "-infinity", "upper": "infinity"}, "sqrt(pi)", "real"),
        ("integrate", {"expression": "x^n", "variable": "x"}, "if(n != -1, x^(n + 1)/(n + 1), ln(x))",
         "expression"),
        ("limit", {"expression": "1/x", "side": "left"}, "-infinity", "infinite"),
        ("limit", {"expression": "(1 + 1/n)^n", "at": "infinity"}, "e", "real"),
        ("sum", {"expression": "k"}, "n^2/2 + n/2", "expression"),
        ("expand", {"expression": "(1+2i)*(3-i)"}, "5 + 5*i", "complex"),
        ("expand", {"expression": "(-8)^(1/3) - cbrt(-8) - 2"}, "2*(-1)^(1/3)", "complex"),
    ],
)  # fmt: skip
def test_the_exact_form_and_the_type(
    algebra: Algebra, operation: str, arguments: dict[str, Any], exact: str, kind: str
) -> None:
    result = ask(algebra, operation, **arguments)
    assert (result.exact, result.type) == (exact, kind)


def exact_solutions(result: Solutions) -> list[dict[str, str | None]]:
    return [{name: form.exact for name, form in found.values.items()} for found in result.solutions]


def test_a_system_is_solved_together(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["x + y = 3", "x - y = 1"])
    assert exact_solutions(result) == [{"x": "2", "y": "1"}]
    assert result.complete


def test_infinitely_many_solutions_are_a_family(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["tan(x) = 1"])
    assert [(found.values["x"].exact, found.parameters) for found in result.solutions] == [("pi*n + pi/4", ["n"])]
    assert result.complete


def test_other_variables_stay_in_the_solution(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["a*x + b = 0"], variables=["x"])
    assert exact_solutions(result) == [{"x": "-b/a"}]


def test_an_assumption_chooses_among_solutions(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["x^2 = 4"], assume={"x": "positive"})
    assert exact_solutions(result) == [{"x": "2"}]


def test_what_has_no_known_method_is_searched_and_said_to_be_incomplete(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["cos(x) = x"])
    assert [form.values["x"].exact for form in result.solutions] == [None]
    assert not result.complete


def test_none_and_all_are_told_apart(algebra: Algebra) -> None:
    nothing = ask(algebra, "solve", equations=["x = x + 1"])
    everything = ask(algebra, "solve", equations=["x = x"])
    assert (nothing.solutions, nothing.complete, nothing.always) == ([], True, False)
    assert (everything.solutions, everything.always) == ([], True)


def test_roots_without_radicals_are_all_there(algebra: Algebra) -> None:
    result = ask(algebra, "solve", equations=["x^5 = x + 1"])
    assert [found.values["x"].type for found in result.solutions] == ["real", *["complex"] * 4]
    assert result.complete


def test_latex_is_given(algebra: Algebra) -> None:
    assert ask(algebra, "integrate", expression="1/x").latex == r"\ln{\left(x \right)}"


@pytest.mark.parametrize(
    ("operation", "arguments", "error", "said"),
    [
        ("expand", {"expression": "foo(x)"}, NotFound, "did you mean 'floor'"),
        ("expand", {"expression": "3 ft to m"}, InvalidArgument, "units of measure"),
        ("expand", {"expression": "[1, 2]"}, InvalidArgument, "linalg"),
        ("expand", {"expression": "x/0"}, InvalidArgument, "division by zero"),
        ("expand", {"expression": "sin + 1"}, InvalidArgument, "sin is a function"),
        ("expand", {"expression": "x(3)"}, InvalidArgument, "to multiply"),
        ("expand", {"expression": "sin(1, 2)"}, InvalidArgument, "takes 1 argument"),
        ("expand", {"expression": "x.__class__"}, InvalidArgument, "unexpected"),
        ("expand", {"expression": "x", "assume": {"x": "positve"}}, InvalidArgument, "did you mean 'positive'"),
        ("differentiate", {"expression": "a*b"}, InvalidArgument, "a, b; name one"),
        ("differentiate", {"expression": "x", "variable": "pi"}, InvalidArgument, "a constant"),
        ("integrate", {"expression": "sin(sin(x))"}, Unimplemented, "no closed form"),
        ("integrate", {"expression": "x", "lower": "0"}, InvalidArgument, "both bounds"),
        ("integrate", {"expression": "exp(-a*x)", "variable": "x", "lower": "0", "upper": "infinity"},
         Unimplemented, "knowing more of a"),
        ("limit", {"expression": "sin(x)", "at": "infinity"}, InvalidArgument, "between -1 and 1"),
        ("limit", {"expression": "abs(x)/x"}, InvalidArgument, "differs"),
        ("solve", {"equations": ["x^2 = 2"], "variables": ["y"]}, InvalidArgument, "no equation contains y"),
        ("solve", {"equations": ["x > 2"]}, InvalidArgument, "not an equation"),
        ("solve", {"equations": ["1 = 2"]}, InvalidArgument, "no variable"),
        ("factor", {"expression": "x^2", "over": ["pi"]}, InvalidArgument, "algebraic"),
    ],
)  # fmt: skip
def test_an_error_says_what_was_wrong(
    algebra: Algebra, operation: str, arguments: dict[str, Any], error: type[SmolError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask(algebra, operation, **arguments)


HOSTILE = [
    "9**9**9", "factorial(10**8)", "(1/3)^(1e9)", "(" * 100_000 + "1" + ")" * 100_000, "1+" * 600_000 + "1",
    "(x+1)^100000", "(a+b+c+d+f+g+h)^60", "binomial(10^9, 10^8)", "fibonacci(10^9)", "bernoulli(10^7)",
    "2^2" + "^x" * 90, "sin(" * 90 + "x" + ")" * 90, "+".join(f"x{n}" for n in range(2000)), "x^(10^9) - 1",
    "gamma(10^9 + 1/2)", "zeta(1/2 + 999i)^zeta(1/2)", "harmonic(10^9)", "polylog(50, 1/3)^999", "10^9999 * x",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("expression", HOSTILE, ids=[text[:30] for text in HOSTILE])
def test_a_hostile_expression_ends_by_its_deadline(algebra: Algebra, expression: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ask(algebra, "expand", expression=expression, deadline_seconds=0.3)
    except SmolError as error:
        assert error.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5


def test_a_computation_is_ended_at_its_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="no result within"):
        asyncio.run(compute(lambda: time.sleep(60), int, 0.1))


def test_a_computation_that_wants_too_much_memory_is_refused() -> None:
    with pytest.raises(ResourceExhausted, match="memory"):
        asyncio.run(compute(lambda: len(bytearray(2 * CHILD_BYTES)), int, 30))


def test_a_computation_that_crashes_is_an_error_of_its_call() -> None:
    with pytest.raises(ResourceExhausted):
        asyncio.run(compute(lambda: os.abort(), int, 30))


def test_an_answer_too_long_for_a_frame_is_refused() -> None:
    with pytest.raises(ResourceExhausted, match="longer than"):
        asyncio.run(compute(lambda: "x" * 600_000, str, 30))


def test_an_error_of_ours_crosses_the_pipe() -> None:
    def refuse() -> None:
        raise Cancelled("no")

    with pytest.raises(Cancelled, match="no"):
        asyncio.run(compute(refuse, int, 30))


def test_a_cancelled_call_leaves_no_process() -> None:
    async def cancel() -> None:
        task = asyncio.create_task(compute(lambda: time.sleep(60), int, 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_every_function_and_constant_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs/reference/algebra.md").read_text()
    assert [name for name in [*FUNCTIONS, *CONSTANTS] if f"`{name}`" not in page] == []


# Properties: in this process, since what is computed is small -----------------------------------------

_TERMS = ["x^2", "3*x", "sin(x)", "exp(2*x)", "x*cos(x)", "ln(x)", "1/x", "x*exp(x)", "7", "sqrt(x)", "cosh(x)"]
_FACTORS = ["x + 1", "x - 2", "2*x + 3", "x^2 + 1", "y - x", "x*y + 1", "x^2 - y", "3"]
_NUMBERS = st.integers(-9, 9)


def done(operation: str, expression: str, assume: dict[str, str] | None = None, **arguments: Any) -> str:
    node = parse_expression(expression)
    form = perform(operation, assume or {}, 20, {"node": node, **arguments})
    assert isinstance(form, Form) and form.exact is not None
    return form.exact


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_NUMBERS.filter(bool), st.sampled_from(_TERMS)), min_size=1, max_size=4))
def test_the_derivative_of_an_integral_is_the_integrand(terms: list[tuple[int, str]]) -> None:
    text = " + ".join(f"({factor})*({term})" for factor, term in terms)
    positive = {"x": "positive"}
    integral = done("integrate", text, positive, variable="x", lower=None, upper=None, patience_seconds=9)
    derivative = done("differentiate", integral, positive, variable="x", order=1)
    assert done("simplify", f"({derivative}) - ({text})", positive) == "0"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(_FACTORS), min_size=1, max_size=4))
def test_expanding_undoes_factoring(factors: list[str]) -> None:
    expanded = done("expand", "*".join(f"({factor})" for factor in factors))
    assert done("expand", done("factor", expanded, over=[])) == expanded


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=4, unique=True))
def test_the_solutions_of_a_product_are_its_roots(roots: list[int]) -> None:
    equation = "*".join(f"(x - ({root}))" for root in roots)
    result = perform("solve", {}, 20, {"nodes": [parse_expression(equation)], "names": []})
    assert isinstance(result, Solutions)
    assert [found["x"] for found in exact_solutions(result)] == [str(root) for root in sorted(roots)]


_expressions = st.recursive(
    st.sampled_from(["x", "y", "2", "1/3", "pi", "e", "i", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sin", "exp", "sqrt", "abs", "atan", "erf", "conj", "gamma", "re", "floor"]),
                  inner).map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda text: f"({text})^2"),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_expressions)
def test_an_answer_can_be_asked_again(text: str) -> None:
    assume(text.count("exp") < 4)  # A tower of them takes as long as its caller allows.
    try:
        first = done("expand", text)
    except (InvalidArgument, ResourceExhausted):  # Undefined there, or beyond every limit.
        return
    assert done("expand", f"({first}) - ({text})") == "0" or done("expand", first) == first


@pytest.mark.parametrize("text", ["atan(i)", "-atan(i)", "infinity + i"])
def test_what_is_infinite_but_not_on_the_real_line_is_undefined(text: str) -> None:
    with pytest.raises(InvalidArgument, match="infinite or undefined"):
        done("expand", text)


_PIECES = ["1", "2.5", "x", "y", "sin", "(", ")", "[", "]", ",", "+", "-", "*", "/", "^", "%", "!", "=", "==", "<",
           "i", "pi", "infinity", "if", "1e9", " mod ", " and ", "°", "²", "sqrt", "gamma", " to "]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=10).map("".join))
def test_any_text_gives_an_answer_or_an_error_of_ours(text: str) -> None:
    async def simplify() -> Form:
        work = lambda: perform("simplify", {}, 20, {"node": parse_expression(text)})  # noqa: E731
        return await compute(work, Form, 0.5)

    try:
        result = asyncio.run(simplify())
    except SmolError as error:
        assert error.code in (
            "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND", "UNIMPLEMENTED", "DEADLINE_EXCEEDED",
        )  # fmt: skip
    else:
        assert result.type


@pytest.mark.slow
def test_an_integral_that_takes_too_long_in_closed_form_is_computed_approximately(algebra: Algebra) -> None:
    result = ask(algebra, "integrate", expression="exp(cos(x))", lower="0", upper="2*pi")
    assert (result.exact, result.decimal) == (None, "7.9549265210128452745")
