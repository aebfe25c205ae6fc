"""What is counted, in Prometheus's text format: requests here, workers and memory at the host, and by units."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from smol.errors import SmolError
from smol.sdk import Metric
from smol.units.gateway.hosts import HostAccess

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNIT_SECONDS = 1.0
"""A unit that takes longer to say what it counts is left out of a page."""
_log = logging.getLogger("smol.units.gateway")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One registry of its own, so that nothing but what is documented appears."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("smol_http_requests", "HTTP requests by status.", ["status"], registry=registry)
        self.in_flight = Gauge("smol_http_in_flight", "HTTP requests being answered.", registry=registry)
        self.seconds = Histogram(
            "smol_call_seconds",
            "Calls of operations over HTTP.",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.errors = Counter(
            "smol_call_errors", "Calls that failed, by status code.", ["operation", "code"], registry=registry
        )
        self.calls = Gauge("smol_host_calls", "Calls that the host has taken since it started.", registry=registry)
        self.clients = Gauge("smol_host_clients", "Connections to the host.", registry=registry)
        self.budget = Gauge("smol_budget_bytes", "The memory budget.", registry=registry)
        self.guarantee = Gauge(
            "smol_budget_guarantee",
            "1 for how the budget is kept: hard, process or none.",
            ["guarantee"],
            registry=registry,
        )
        self.measured = Gauge("smol_memory_bytes", "Memory in use by everything.", registry=registry)
        self.peak = Gauge("smol_memory_peak_bytes", "The most memory ever in use.", registry=registry)
        self.reserved = Gauge("smol_memory_reserved_bytes", "Memory promised to everything.", registry=registry)
        self.queued = Gauge("smol_memory_waiting", "Who waits for room.", registry=registry)
        self.decisions = Gauge(
            "smol_memory_decisions",
            "Decisions of the governor since the host started, as evict, refuse or degrade.",
            ["decision"],
            registry=registry,
        )
        worker = ["worker"]
        self.worker_bytes = Gauge(
            "smol_worker_memory_bytes", "Memory measured of a worker (PSS).", worker, registry=registry
        )
        self.worker_reserved = Gauge(
            "smol_worker_reserved_bytes",
            "Memory promised to a worker, with its models.",
            worker,
            registry=registry,
        )
        self.worker_ready = Gauge(
            "smol_worker_ready", "1 for a worker that takes calls.", worker, registry=registry
        )
        self.worker_running = Gauge("smol_worker_calls", "Calls that run in a worker.", worker, registry=registry)
        self.worker_waiting = Gauge(
            "smol_worker_waiting", "Calls that wait for a worker.", worker, registry=registry
        )
        self.worker_starts = Gauge("smol_worker_starts", "Starts of a worker.", worker, registry=registry)
        self.worker_crashes = Gauge("smol_worker_crashes", "Crashes of a worker.", worker, registry=registry)
        self._of_units = _OfUnits()
        registry.register(self._of_units)

    def called(self, operation: str, seconds: float, error: SmolError | None = None) -> None:
        """A call of an operation that is there ended; labels come from the registry, never from a caller."""
        self.seconds.labels(operation).observe(seconds)
        if error is not None:
            self.errors.labels(operation, error.code).inc()

    async def render(self, host: HostAccess) -> bytes:
        """All of it, with the host as it is now."""
        status: dict[str, Any] = await host.call("lifecycle.status")
        self.calls.set(status["calls"])
        self.clients.set(status["clients"])
        await self._add_memory(host)
        workers: list[dict[str, Any]] = await host.call("lifecycle.processes")
        by_name = {
            self.worker_bytes: "pss_bytes",
            self.worker_running: "calls",
            self.worker_waiting: "waiting",
            self.worker_starts: "starts",
            self.worker_crashes: "crashes",
        }
        for gauge in (*by_name, self.worker_ready):
            gauge.clear()
        for entry in workers:
            for gauge, name in by_name.items():
                gauge.labels(entry["name"]).set(entry.get(name, 0))
            self.worker_ready.labels(entry["name"]).set(entry["state"] == "ready")
        await self._of_units.gather(host)
        return generate_latest(self._registry)

    async def _add_memory(self, host: HostAccess) -> None:
        memory: dict[str, Any] = await host.call("memory.status")
        self.budget.set(memory["budget_bytes"])
        self.guarantee.clear()
        self.guarantee.labels(memory["guarantee"]).set(1)
        self.measured.set(memory["used_bytes"])
        self.peak.set(memory["peak_bytes"])
        self.reserved.set(memory["reserved_bytes"])
        self.queued.set(memory["waiting"])
        for decision, count in memory["decisions"].items():
            self.decisions.labels(decision).set(count)
        self.worker_reserved.clear()
        for entry in memory["workers"]:
            self.worker_reserved.labels(entry["name"]).set(entry["reserved_bytes"])
        for entry in memory["others"]:
            self.worker_reserved.labels(entry["name"]).set(entry["size_bytes"])


class _OfUnits:
    """What units count of themselves, as of the last time they were asked."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    def collect(self) -> Iterator[Family]:
        """Called by the registry."""
        yield from self._families

    async def gather(self, host: HostAccess) -> None:
        """Ask the units that run and have an operation `metrics`; none is started for it."""
        running = [entry["name"] for entry in await host.units() if entry["state"] == "ready"]
        found = await asyncio.gather(*(self._ask(host, unit) for unit in running))
        self._families = [family for families in found for family in families]

    async def _ask(self, host: HostAccess, unit: str) -> list[Family]:
        try:
            operations = (await host.describe(unit)).operations
            if not any(operation.name == "metrics" for operation in operations):
                return []
            counted = await host.call(f"{unit}.metrics", deadline_seconds=_UNIT_SECONDS)
            return _families(unit, msgspec.convert(counted, list[Metric]))
        except (
            SmolError,
            ValueError,
            msgspec.ValidationError,
        ) as error:  # A unit's mistake costs its own figures, not the page.
            _log.warning("%s.metrics is left out of /metrics: %s", unit, error)
            return []


def _families(unit: str, counted: list[Metric]) -> list[Family]:
    """Raises ValueError for what Prometheus would not read."""
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for metric in counted:
        name = f"smol_{unit}_{metric.name}"
        if name not in families:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            families[name] = kind(name, metric.help, labels=sorted(metric.labels))
        family = families[name]
        if sorted(metric.labels) != list(family._labelnames):
            raise ValueError(f"{metric.name} has labels {sorted(metric.labels)} and {list(family._labelnames)}")
        family.add_metric([value for _, value in sorted(metric.labels.items())], metric.value)
    return list(families.values())
