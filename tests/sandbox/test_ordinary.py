"""Ordinary programs work under all seals: a sandbox that forbids everything would also stop every hostile one."""

from __future__ import annotations

import asyncio

import pytest

from smol.sandbox.records import LAYERS, Outcome
from tests.sandbox.corpus import Program, load
from tests.sandbox.harness import Bench, require

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("without", [(), ("cgroup",), ("landlock",)], ids=["strong", "nocgroup", "no-landlock"])
def test_ordinary_programs_work(without: tuple[str, ...]) -> None:
    layers = require(tuple(layer for layer in LAYERS if layer not in without))

    async def scenario() -> dict[str, object]:
        async with Bench(layers) as bench:
            return {
                program.name: wrong
                for program in load("ordinary")
                if bench.runs(program.language)
                and (wrong := fault(program, await bench.run(program, program.source)))
            }

    assert asyncio.run(scenario()) == {}


def fault(program: Program, outcome: Outcome) -> str:
    """What is wrong with the outcome of an ordinary program; empty for nothing."""
    if outcome.verdict not in (program.verdicts or {"ok"}):
        return f"verdict {outcome.verdict}: {outcome.stderr.decode()[-300:]}"
    if "status" in program.options and outcome.exit_status != int(program.options["status"]):
        return f"status {outcome.exit_status}"
    if "artifact" in program.options and program.options["artifact"] not in {p.name for p in outcome.products}:
        return f"artifacts {[product.name for product in outcome.products]}"
    if program.expected is None:
        return ""
    got: object = outcome.value if outcome.value is not None else outcome.value_text
    if got is None:
        text = outcome.stdout.decode()
        got = len(text) if isinstance(program.expected, int) else text
    return "" if got == program.expected else f"{got!r} in place of {program.expected!r}"


def test_the_corpus_is_large() -> None:
    assert len(load("ordinary")) >= 40
