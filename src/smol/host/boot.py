"""What started when, how long it took, and what everything waited for; the same of the last stop.

The host marks its own phases; of workers the events `host.worker` are heard. A stop is written to a file, so
that the next host can tell how the one before it ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Boot", "BootRecord", "Phase", "StopRecord", "critical_path", "process_started"]

_PHASES = 200
"""Of one host; a worker counts once, with its first start."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done. kind: host or worker. began_seconds: after the process began.

    critical: everything was ready later because of it. on_demand: it was not part of starting the host.
    """

    name: str
    kind: str
    began_seconds: float
    took_seconds: float
    needs: list[str] = []
    critical: bool = False
    on_demand: bool = False


class StopRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a host stopped. clean: it said goodbye; else it was killed, and nobody knows when."""

    clean: bool
    began: float = 0.0
    took_seconds: float = 0.0
    phases: list[Phase] = []


class BootRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the host started. serving_seconds: until it took calls; ready_seconds: until what runs always was ready.

    began: seconds since the epoch. critical: the names of the phases that decided `ready_seconds`, in order.
    last_stop: of the host before this one; null when there was none.
    """

    began: float
    serving_seconds: float
    ready_seconds: float
    critical: list[str]
    phases: list[Phase]
    last_stop: StopRecord | None = None


class Boot:
    """Notes when things begin and end. clock: seconds since the epoch."""

    def __init__(self, began: float, clock: Callable[[], float] = time.time) -> None:
        self.began = began
        self.last_stop: StopRecord | None = None
        self._clock = clock
        self._phases: dict[str, Phase] = {}
        self._begun: dict[str, float] = {}
        self._at = began
        self._serving_at = 0.0
        self._stop_began = 0.0
        self._stop_phases: list[Phase] = []
        self._path: Path | None = None

    def mark(self, name: str) -> None:
        """A phase of the host ends, which began where the one before it ended."""
        now = self._clock()
        self._phases[name] = _phase(name, "host", self._at, now, self.began)
        self._at = now

    def serving(self) -> None:
        """The host takes calls from now on."""
        self._serving_at = self._clock()

    def heard(self, topic: str, data: Any) -> None:
        """An event of the host."""
        if topic != "host.worker":
            return
        name, state, now = data["worker"], data["state"], self._clock()
        if state == "starting":
            self._begun.setdefault(name, now)
        elif state == "ready" and name not in self._phases and name in self._begun and len(self._phases) < _PHASES:
            late = bool(self._serving_at) and self._begun[name] > self._serving_at
            self._phases[name] = _phase(name, "worker", self._begun[name], now, self.began, on_demand=late)
        elif state == "draining":
            self._begun[f"-{name}"] = now
        elif state == "stopped" and self._stop_began and f"-{name}" in self._begun:
            began = self._begun[f"-{name}"]
            self._stop_phases.append(_phase(name, "worker", began, now, self._stop_began))

    def record(self, needs: Mapping[str, set[str]]) -> BootRecord:
        """The start of this host. needs: which workers each worker needs."""
        phases = [
            msgspec.structs.replace(phase, needs=sorted(needs.get(phase.name, ())))
            for phase in sorted(self._phases.values(), key=lambda phase: phase.began_seconds)
        ]
        path = critical_path(phases)
        ends = [phase.began_seconds + phase.took_seconds for phase in phases if not phase.on_demand]
        return BootRecord(
            began=self.began,
            serving_seconds=self._serving_at - self.began if self._serving_at else 0.0,
            ready_seconds=max(ends, default=0.0),
            critical=path,
            phases=[msgspec.structs.replace(phase, critical=phase.name in path) for phase in phases],
            last_stop=self.last_stop,
        )

    # Stopping -----------------------------------------------------------------------------------

    def keep_at(self, path: Path) -> None:
        """Read how the host before ended, and from now on count as killed until `stopped`."""
        self._path = path
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self.last_stop = msgspec.json.decode(path.read_bytes(), type=StopRecord)
        self._write(StopRecord(clean=False))

    def stopping(self) -> None:
        """The host begins to stop."""
        self._stop_began = self._at = self._clock()

    def mark_stop(self, name: str) -> None:
        """A phase of the host's stop ends, which began where the one before it ended."""
        now = self._clock()
        self._stop_phases.append(_phase(name, "host", self._at, now, self._stop_began))
        self._at = now

    def stopped(self) -> None:
        """Write down how it went, for the next host."""
        took = self._clock() - self._stop_began
        phases = sorted(self._stop_phases, key=lambda phase: phase.began_seconds)
        self._write(StopRecord(clean=True, began=self._stop_began, took_seconds=took, phases=phases))

    def _write(self, record: StopRecord) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):  # Without it the next host knows less, nothing else.
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path.with_suffix(".tmp")
            fresh.write_bytes(msgspec.json.encode(record))
            fresh.replace(self._path)


def _phase(name: str, kind: str, began: float, ended: float, origin: float, *, on_demand: bool = False) -> Phase:
    return Phase(
        name=name,
        kind=kind,
        began_seconds=max(0.0, began - origin),
        took_seconds=max(0.0, ended - began),
        on_demand=on_demand,
    )


def critical_path(phases: list[Phase]) -> list[str]:
    """What decided when everything was ready, in order: the last to end, what it waited for last, and so on."""
    known = {phase.name: phase for phase in phases if not phase.on_demand}

    def end(phase: Phase) -> float:
        return phase.began_seconds + phase.took_seconds

    path: list[str] = []
    at = max(known.values(), key=end, default=None)
    while at is not None and at.name not in path:
        path.append(at.name)
        needed = [known[name] for name in at.needs if name in known and known[name].kind == "worker"]
        before = [
            phase for phase in known.values() if phase.kind == "host" and end(phase) <= at.began_seconds + 1e-9
        ]
        at = max(needed, key=end, default=None) or max(before, key=end, default=None)
    return path[::-1]


def process_started() -> float:
    """When this process began, in seconds since the epoch; now, where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.time()
    return time.time() - max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
