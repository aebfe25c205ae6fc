"""Environments of the settings: how each is, and what one is told who asks too early or for another."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from smol.errors import FailedPrecondition, InvalidArgument, Unavailable
from smol.units.code.environments import Environments


class Life:
    """A unit's context, of a host that answers when it is let."""

    def __init__(self) -> None:
        self.log = logging.getLogger("test")
        self.asked: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.answer: str | Exception = "/"

    async def call(self, operation: str, *, within_seconds: float, **arguments: Any) -> str:
        self.asked.append({"operation": operation, **arguments})
        await self.go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def begin(environments: Environments, life: Life, *, closed_to_others: bool = False) -> None:
    environments.begin(life, "3.12", closed_to_others=closed_to_others)  # type: ignore[arg-type]


def test_a_list_is_made_by_the_host_and_refused_until_it_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        life, environments = Life(), Environments({"plot": ["matplotlib"], "own": str(tmp_path)})
        begin(environments, life)
        assert environments.path("own") == tmp_path
        with pytest.raises(Unavailable, match="environment_make waits"):
            environments.path("plot")
        await asyncio.sleep(0)
        assert life.asked == [{"operation": "packages.ensure", "requirements": ["matplotlib"], "python": "3.12"}]
        life.go.set()
        info = await environments.make(life, "plot")  # type: ignore[arg-type]
        assert (info.state, info.path, environments.path("plot")) == ("ready", "/", Path("/"))

    asyncio.run(story())


def test_one_that_failed_says_why_and_is_tried_again_when_asked() -> None:
    async def story() -> None:
        life, environments = Life(), Environments({"plot": ["matplotlib"]})
        life.answer = Unavailable("no network")
        life.go.set()
        begin(environments, life)
        await asyncio.sleep(0)
        with pytest.raises(FailedPrecondition, match="no network"):
            await environments.make(life, "plot")  # type: ignore[arg-type]
        assert [info.problem for info in environments.infos()] == ["no network"]
        life.answer = "/"
        assert (await environments.make(life, "plot")).state == "ready"  # type: ignore[arg-type]

    asyncio.run(story())


def test_one_that_the_users_of_sandboxes_can_not_read_is_of_no_use(tmp_path: Path) -> None:
    async def story() -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        life, environments = Life(), Environments({"plot": ["matplotlib"]})
        life.answer = str(closed)
        life.go.set()
        begin(environments, life, closed_to_others=True)
        with pytest.raises(FailedPrecondition, match="SMOL_HOME"):
            await environments.make(life, "plot")  # type: ignore[arg-type]

    asyncio.run(story())


def test_where_nothing_is_run_none_is_made() -> None:
    environments = Environments({"plot": ["matplotlib"]})
    environments.give_up("no tier")
    with pytest.raises(FailedPrecondition, match="no tier"):
        environments.path("plot")


def test_names_and_directories_that_are_not_there_are_told() -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'plot'"):
        Environments({"plot": ["matplotlib"]}).path("plots")
    with pytest.raises(InvalidArgument, match="no directory"):
        Environments({"own": "/nowhere"})
    with pytest.raises(InvalidArgument, match="at least one"):
        Environments({"none": []})


def test_closing_lets_go_of_what_is_being_made() -> None:
    async def story() -> None:
        life, environments = Life(), Environments({"plot": ["matplotlib"]})
        begin(environments, life)
        await asyncio.sleep(0)
        await asyncio.wait_for(environments.close(), 1)

    asyncio.run(story())
