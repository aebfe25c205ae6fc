"""Runs programs of the corpora in sandboxes with chosen layers, and looks at them from outside."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import pytest

from smol.errors import FailedPrecondition
from smol.sandbox.box import Box
from smol.sandbox.cgroup import Parent, find_parent
from smol.sandbox.ground import explore
from smol.sandbox.keeper import Keeper
from smol.sandbox.kernel import landlock_abi
from smol.sandbox.kinds import program_kind, python_kind, reachable_python, with_network
from smol.sandbox.proxy import Proxy
from smol.sandbox.records import LAYERS, Job, Kind, Limits, Outcome
from smol.units.code.languages import LANGUAGES
from tests.sandbox.corpus import Program

__all__ = ["Bench", "require"]


class Bench:
    """A nursery and a set of layers."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers
        self.keeper: Keeper
        self.parent: Parent | None = None

    async def __aenter__(self) -> Self:
        python = "" if "namespaces" in self.layers else reachable_python(self.layers)
        if python is None:
            pytest.skip("no Python is open to other users: apt-get install python3")
        self.keeper = await Keeper.started(python)
        self.parent = find_parent() if "cgroup" in self.layers else None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.keeper.close()

    def runs(self, language: str) -> bool:
        """Whether the language can be held by these layers, and is installed."""
        tongue = LANGUAGES[language]
        if language == "javascript" and tongue.programs:  # The programs are written for QuickJS, and this is Node.
            return False
        return set(tongue.needs) <= set(self.layers) and (not tongue.programs or tongue.program() is not None)

    async def run(self, program: Program, source: str) -> Outcome:
        kind, job, limits = self._prepared(program, source)
        async with await Box.made(self.keeper, kind, self.layers, limits, self.parent) as box:
            return await asyncio.wait_for(box.run(job, limits), 30)

    async def run_with_network(
        self, program: Program, source: str, proxied: Callable[[socket.socket], Proxy]
    ) -> tuple[Outcome, Proxy]:
        """A run whose connections come to the proxy that is made for its socket."""
        kind, job, limits = self._prepared(program, source)
        box = await Box.made(self.keeper, with_network(kind), self.layers, limits, self.parent)
        async with box, proxied(box.listener()) as proxy:
            return await asyncio.wait_for(box.run(job, limits), 30), proxy

    def _prepared(self, program: Program, source: str) -> tuple[Kind, Job, Limits]:
        tongue = LANGUAGES[program.language]
        limits = Limits(timeout_ms=program.timeout_ms, memory_bytes=program.memory_bytes)
        if not tongue.programs:
            source = tongue.python(source)
        job = Job(source=source, stdin=program.options.get("stdin", "").encode())
        if not tongue.programs:
            return python_kind(self.keeper), job, limits
        job = msgspec.structs.replace(
            job,
            argv=tongue.command(),
            source_file=tongue.source_file(),
            environment={"PATH": "/usr/bin:/bin", "HOME": "/work", "TMPDIR": "/tmp"},
        )
        return program_kind(tongue.name, tongue.shows), job, limits

    def leftovers(self) -> list[str]:
        """Processes and cgroups that are there although no sandbox is."""
        found = [f"process {pid}" for pid in _children(self.keeper.pid)]
        groups = [self.parent.memory, self.parent.pids] if self.parent else []
        for group in groups:
            if group is not None:
                found += [str(path) for path in group.path.glob(f"box-{os.getpid()}-*")]
        return found


def require(layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layers that this user can have; skips the test where one is missing that the machine must offer."""
    if not sys.platform.startswith("linux"):
        pytest.skip("sandboxes need Linux")
    if os.geteuid() != 0:
        layers = tuple(layer for layer in layers if layer != "uid")
    if "landlock" in layers and not landlock_abi():
        pytest.skip("the kernel has no Landlock")
    if "namespaces" in layers and asyncio.run(_without_namespaces(layers)):
        pytest.skip("this user can make no namespaces here")
    if "cgroup" in layers:
        try:
            find_parent()
        except FailedPrecondition as error:
            pytest.skip(error.message)
    return layers


async def _without_namespaces(layers: tuple[str, ...]) -> bool:
    ground = await explore(frozenset(LAYERS) - set(layers))
    await ground.close()
    return "namespaces" not in ground.isolation.layers


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []
