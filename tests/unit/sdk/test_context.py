from __future__ import annotations

import asyncio
import logging
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from smol.sdk import Context, Unit
from smol.sdk.context import Environment, Link


class Noting(Link):
    def __init__(self) -> None:
        self.said: list[Any] = []

    async def call(
        self, operation: str, arguments: Any, deadline_seconds: float, trace: str, key: str = ""
    ) -> Any:
        self.said.append((operation, dict(arguments), deadline_seconds, trace, key))
        return 7

    def progress(self, call_id: int, fraction: float, message: str) -> None:
        self.said.append((call_id, fraction, message))

    def publish(self, topic: str, data: Any) -> None:
        self.said.append((topic, data))


def environment(tmp_path: Path, link: Link | None = None) -> Environment:
    return Environment(
        unit="lab", log=logging.getLogger("lab"), data_dir=tmp_path / "a" / "data", cache_dir=tmp_path / "cache",
        settings={"size": 1}, link=link or Link(),
    )  # fmt: skip


def test_directories_are_made_on_first_use_for_their_user_only(tmp_path: Path) -> None:
    context = Context(environment(tmp_path))
    assert not (tmp_path / "cache").exists()
    assert stat.S_IMODE(context.data_dir.stat().st_mode) == 0o700
    assert context.cache_dir.is_dir()


def test_time_left_is_never_below_zero(tmp_path: Path) -> None:
    assert Context(environment(tmp_path)).deadline_seconds() is None
    assert Context(environment(tmp_path), deadline=time.monotonic() - 5).deadline_seconds() == 0
    left = Context(environment(tmp_path), deadline=time.monotonic() + 5).deadline_seconds()
    assert left is not None
    assert 4 < left <= 5


def test_a_call_to_another_unit_keeps_within_the_deadline_and_the_trace(tmp_path: Path) -> None:
    link = Noting()
    context = Context(environment(tmp_path, link), deadline=time.monotonic() + 5, trace="00-1")
    assert asyncio.run(context.call("a.b", x=1)) == 7
    assert asyncio.run(context.call("a.b", within_seconds=1)) == 7
    (first, second) = link.said
    assert first[:2] == ("a.b", {"x": 1})
    assert 4 < first[2] <= 5
    assert (second[2], second[3]) == (1, "00-1")


def test_an_idempotency_key_travels_beside_an_argument_of_the_same_name(tmp_path: Path) -> None:
    link = Noting()
    assert asyncio.run(Context(environment(tmp_path, link)).call_with("a.b", {"key": "mine"}, key="k1")) == 7
    assert link.said == [("a.b", {"key": "mine"}, 60.0, "", "k1")]


def test_progress_and_events_say_whose_they_are(tmp_path: Path) -> None:
    link = Noting()
    context = Context(environment(tmp_path, link), call_id=9)
    context.progress(0.5, "half")
    context.publish("done", [1])
    assert link.said == [(9, 0.5, "half"), ("lab.done", [1])]


def test_a_context_without_a_host_says_so(tmp_path: Path) -> None:
    context = Context(environment(tmp_path))
    context.progress(0.5)
    context.publish("done", 1)
    with pytest.raises(NotImplementedError, match="not connected"):
        asyncio.run(context.call("a.b"))
    with pytest.raises(NotImplementedError, match="not connected"):
        context.stream("a.b")


def test_every_step_of_a_units_life_is_optional(tmp_path: Path) -> None:
    async def live() -> None:
        unit, context = Unit(), Context(environment(tmp_path))
        await unit.provision(context)
        await unit.validate()
        await unit.serve(context)
        await unit.close()

    asyncio.run(live())
