"""Every hostile program is stopped, at every tier this machine can have, and the host is as it was."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smol.sandbox.records import LAYERS
from tests.sandbox.corpus import Program, load
from tests.sandbox.harness import Bench, require
from tests.sandbox.host import WatchedHost

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

TIERS = {
    "strong": LAYERS,
    "nocgroup": tuple(layer for layer in LAYERS if layer != "cgroup"),
    "landlock": tuple(layer for layer in LAYERS if layer not in ("cgroup", "namespaces")),
}


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedHost]:
    with tempfile.TemporaryDirectory() as folder, WatchedHost(Path(folder)) as host:
        yield host


@pytest.mark.parametrize("topic", ["files", "kernel", "network", "bombs", "results", "javascript"])
@pytest.mark.parametrize("tier", TIERS)
def test_hostile_programs_are_stopped_and_leave_the_host_as_it_was(
    tier: str, topic: str, watched: WatchedHost
) -> None:
    programs = [program for program in load("hostile") if program.topic == topic]
    layers = require(TIERS[tier])

    async def scenario() -> dict[str, list[str]]:
        async with Bench(layers) as bench:
            return {
                program.name: found
                for program in programs
                if bench.runs(program.language) and (found := await judged(bench, watched, program, tier))
            }

    assert asyncio.run(scenario()) == {}


async def judged(bench: Bench, host: WatchedHost, program: Program, tier: str) -> list[str]:
    """What went wrong with a run, seen from outside."""
    outcome = await bench.run(program, program.with_facts(host.facts))
    remains = b"".join(product.data for product in outcome.products)
    found = host.harm(outcome.stdout, outcome.stdout + outcome.stderr + remains) + bench.leftovers()
    if tier in program.options.get("out", "").split("|"):  # known to get out there, and told so in the docs
        return [] if found == ["it says so itself"] else [f"expected to get out, but: {found}"]
    if tier == "strong" and program.verdicts and outcome.verdict not in program.verdicts:
        found.append(f"verdict {outcome.verdict}")
    return found


def test_the_corpus_is_large() -> None:
    assert len(load("hostile")) >= 100


def test_a_program_that_gets_out_is_noticed(watched: WatchedHost) -> None:
    """The watch itself works: without a layer, what reads the canary reads it."""
    program = next(program for program in load("hostile") if program.name == "read-canary")

    async def scenario() -> list[str]:
        async with Bench(()) as bench:
            return await judged(bench, watched, program, "none")

    assert asyncio.run(scenario()) == ["it read the canary"]
