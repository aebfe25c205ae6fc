"""What units count of themselves, on the page for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smol.errors import Unavailable
from smol.sdk import Metric, Unit, operation
from smol.units.gateway.metrics import Metrics


class Door(Unit):
    def __init__(self, *counted: Metric) -> None:
        self._counted = list(counted)

    @operation(read_only=True)
    async def metrics(self) -> list[Metric]:
        """Count."""
        return self._counted


class Broken(Unit):
    @operation(read_only=True)
    async def metrics(self) -> list[Metric]:
        """Fail."""
        raise Unavailable("it has fallen off")


class Stranger(Unit):
    @operation(read_only=True)
    async def metrics(self) -> str:
        """Something else of the same name."""
        return "many"


class Quiet(Unit):
    @operation(read_only=True)
    async def look(self) -> int:
        """Count nothing."""
        return 1


OPENED = [
    Metric("opened", "Times it was opened.", 3, "counter", {"by": "hand"}),
    Metric("opened", "Times it was opened.", 1, "counter", {"by": "wind"}),
    Metric("open", "1 while it is open.", 1),
]


class Lifecycle(Unit):
    @operation(read_only=True)
    async def status(self) -> dict[str, int]:
        """Count."""
        return {"calls": 1, "clients": 1}

    @operation(read_only=True)
    async def processes(self) -> list[str]:
        """None."""
        return []


class Memory(Unit):
    @operation(read_only=True)
    async def status(self) -> dict[str, Any]:
        """Nothing."""
        numbers = dict.fromkeys(("budget_bytes", "used_bytes", "peak_bytes", "reserved_bytes", "waiting"), 0)
        return {**numbers, "guarantee": "none", "decisions": {}, "workers": [], "others": []}


def page(fake_host: Any, **units: Unit) -> list[str]:
    host = fake_host(lifecycle=Lifecycle(), memory=Memory(), **units)
    return asyncio.run(Metrics().render(host)).decode().splitlines()


def test_what_units_count_is_shown_under_their_names(fake_host: Any) -> None:
    lines = page(fake_host, door=Door(*OPENED), quiet=Quiet())
    assert 'smol_door_opened_total{by="hand"} 3.0' in lines
    assert 'smol_door_opened_total{by="wind"} 1.0' in lines
    assert "smol_door_open 1.0" in lines
    assert "# HELP smol_door_open 1 while it is open." in lines


@pytest.mark.parametrize(
    "wrong",
    [
        Broken(),
        Stranger(),
        Door(Metric("no name", "x", 1)),
        Door(Metric("x", "x", 1, labels={"a": "1"}), Metric("x", "x", 1, labels={"b": "1"})),
        Door(Metric("x", "x", 1, labels={"not a label": "1"})),
    ],
)
def test_a_unit_that_counts_wrongly_costs_its_own_figures_and_not_the_page(fake_host: Any, wrong: Unit) -> None:
    lines = page(fake_host, door=Door(*OPENED), wrong=wrong)
    assert "smol_door_open 1.0" in lines
    assert not any("smol_wrong" in line for line in lines)


def test_a_label_may_say_anything(fake_host: Any) -> None:
    lines = page(fake_host, door=Door(Metric("x", 'a "b"\n', 1, labels={"a": '"\n\\'})))
    assert 'smol_door_x{a="\\"\\n\\\\"} 1.0' in lines


def test_units_that_do_not_run_are_not_asked(fake_host: Any) -> None:
    class Asleep(fake_host):  # type: ignore[misc]
        async def units(self) -> list[dict[str, Any]]:
            return [{"name": "door", "kind": "tool", "state": "declared"}]

    host = Asleep(lifecycle=Lifecycle(), memory=Memory(), door=Door(*OPENED))
    assert "smol_door" not in asyncio.run(Metrics().render(host)).decode()
    assert "door.metrics" not in [operation for operation, _ in host.calls]
