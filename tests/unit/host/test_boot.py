from __future__ import annotations

import time
from pathlib import Path

import msgspec

from smol.cli.boot import render_boot
from smol.host.boot import Boot, Phase, critical_path, process_started
from smol.types import Json


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hear(boot: Boot, clock: Clock, at: float, worker: str, state: str) -> None:
    clock.now = at
    boot.heard("host.worker", {"worker": worker, "state": state})


def started() -> tuple[Boot, Clock]:
    """load 1 s, listen 0.5 s; store takes 1 s, notes needs it and takes 2 s more, quick is ready at once."""
    clock = Clock()
    boot = Boot(1000.0, clock)
    clock.now = 1001.0
    boot.mark("load")
    clock.now = 1001.5
    boot.mark("listen")
    for worker in ("store", "quick"):
        hear(boot, clock, 1001.5, worker, "starting")
    boot.serving()
    hear(boot, clock, 1001.6, "quick", "ready")
    hear(boot, clock, 1002.5, "store", "ready")
    return boot, clock


NEEDS: dict[str, set[str]] = {"notes": {"store"}, "store": set()}


def test_what_everything_waited_for_is_found() -> None:
    phases = [
        Phase(name="load", kind="host", began_seconds=0, took_seconds=1),
        Phase(name="listen", kind="host", began_seconds=1, took_seconds=0.5),
        Phase(name="store", kind="worker", began_seconds=1.5, took_seconds=1),
        Phase(name="quick", kind="worker", began_seconds=1.5, took_seconds=0.1),
        Phase(name="notes", kind="worker", began_seconds=1.5, took_seconds=3, needs=["store", "gone"]),
        Phase(name="late", kind="worker", began_seconds=50, took_seconds=3, on_demand=True),
    ]
    assert critical_path(phases) == ["load", "listen", "store", "notes"]
    assert critical_path([]) == []


def test_a_worker_that_is_called_later_does_not_count_as_start_up() -> None:
    boot, clock = started()
    hear(boot, clock, 1060.0, "math", "starting")
    hear(boot, clock, 1061.0, "math", "ready")
    hear(boot, clock, 1070.0, "math", "starting")  # Again, after a crash: its first start is what is told.
    hear(boot, clock, 1079.0, "math", "ready")
    record = boot.record(NEEDS)
    assert (record.serving_seconds, record.ready_seconds) == (1.5, 2.5)
    assert record.critical == ["load", "listen", "store"]
    late = [phase for phase in record.phases if phase.on_demand]
    assert [(phase.name, phase.took_seconds) for phase in late] == [("math", 1.0)]
    assert record.last_stop is None


def test_the_next_host_knows_how_this_one_stopped(tmp_path: Path) -> None:
    boot, clock = started()
    boot.keep_at(tmp_path / "state" / "stop.json")
    boot.stopping()
    hear(boot, clock, 1003.0, "store", "draining")
    hear(boot, clock, 1003.2, "never started", "stopped")
    hear(boot, clock, 1004.0, "store", "stopped")
    boot.mark_stop("workers")
    boot.stopped()
    after = Boot(2000.0, clock)
    after.keep_at(tmp_path / "state" / "stop.json")
    stop = after.last_stop
    assert stop is not None
    assert stop.clean
    assert stop.took_seconds == 1.5
    assert [(phase.name, phase.took_seconds) for phase in stop.phases] == [("workers", 1.5), ("store", 1.0)]


def test_a_host_that_was_killed_is_known_to_have_been(tmp_path: Path) -> None:
    first, _ = started()
    first.keep_at(tmp_path / "stop.json")
    second, _ = started()
    second.keep_at(tmp_path / "stop.json")
    assert first.last_stop is None
    assert second.last_stop is not None
    assert not second.last_stop.clean


def test_the_chart_shows_bars_in_order_and_marks_what_was_waited_for() -> None:
    boot, _ = started()
    record: Json = msgspec.to_builtins(boot.record(NEEDS))
    lines = render_boot(record).splitlines()
    assert lines[1] == "Waited for: load → listen → store"
    chart = {line[2:].split()[0]: line for line in lines[3:7]}
    assert chart["load"].startswith("* load")
    assert chart["quick"].startswith("  quick")
    assert chart["store"].count("█") == 16  # 1 s of 2.5 s, of 40 characters.
    assert "No host stopped here" in lines[-1]


def test_a_process_began_before_now() -> None:
    assert 0 < process_started() <= time.time()
