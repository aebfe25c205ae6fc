"""What the governor knows: the ledger, the costs, who is resident, and how far each ladder was stepped down.

Shared by the parts that decide; it answers questions and keeps itself consistent, but decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from smol.errors import NotFound
from smol.policy.costs import CostKey, Costs
from smol.policy.decisions import Holder
from smol.policy.leak import SPAN_SECONDS
from smol.policy.ledger import Kind, Ledger
from smol.policy.pressure import Level, Marks
from smol.policy.workers import PAUSED, Ask, Habits, Model, Part, Resident, Variant, Worker

__all__ = ["Books", "Settings"]

TRANSIENT = frozenset({Kind.BODY, Kind.SANDBOX, Kind.PROBE, Kind.MODEL})
"""What comes and goes with calls, where no worker holds it."""


class Settings(msgspec.Struct, frozen=True):
    """How the governor behaves.

    quiet_seconds: without trouble, before one step up. patience_*: how long a waiting caller lets others use
    the model that must go for it, as a multiple of its reload time, within bounds. grace_seconds: between the
    warning and the end of a worker over its reservation. raise_share: of the budget, up to which a worker may
    grow by itself. leak_seconds: how long a worker must grow without bound to count as leaking, after half as
    long to warm up.
    """

    marks: Marks = Marks()
    quiet_seconds: float = 60.0
    patience_reloads: float = 2.0
    patience_min_seconds: float = 0.25
    patience_max_seconds: float = 10.0
    grace_seconds: float = 1.0
    raise_share: float = 0.5
    trim_seconds: float = 10.0
    step_seconds: float = 1.0
    queue_length: int = 256
    small_body_bytes: int = 1 << 20
    leak_seconds: float = SPAN_SECONDS


class Books:
    """The state."""

    def __init__(self, budget_bytes: int, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(budget_bytes)
        self.costs = Costs()
        self.workers: dict[str, Worker] = {}
        self.pins: dict[str, bool] = {}
        self.habits: dict[str, Habits] = {}
        self.residents: dict[str, Resident] = {}
        self.steps: dict[str, int] = {}
        self.models: dict[str, Model] = {}
        self.level = Level.CALM
        self.level_reason = ""
        self.trouble_at = float("-inf")

    def declare(self, worker: Worker) -> None:
        self.workers[worker.name] = worker
        self.habits.setdefault(worker.name, Habits(worker.reload_seconds))

    def worker(self, name: str) -> Worker:
        """Raises NotFound."""
        try:
            return self.workers[name]
        except KeyError:
            raise NotFound(f"the governor knows no worker {name!r}; declare it first") from None

    def pinned(self, name: str) -> bool:
        return self.pins.get(name, self.worker(name).pinned)

    def variant(self, model: Model) -> Variant:
        """The variant in force."""
        return model.variants[min(self.steps.get(model.key, 0), len(model.variants) - 1)]

    def lower(self, model: Model) -> Iterator[tuple[int, Variant]]:
        """The steps below the one in force that still serve."""
        step = self.steps.get(model.key, 0)
        for index, variant in enumerate(model.variants[step + 1 :], step + 1):
            if variant.name != PAUSED:
                yield index, variant

    def missing_parts(self, ask: Ask, variant: Variant | None) -> list[Part]:
        """What must be reserved and loaded for this ask."""
        if ask.worker is None:
            return []
        worker = self.worker(ask.worker)
        resident = self.residents.get(worker.name)
        present = resident.parts if resident else {}
        parts: list[Part] = []
        key = f"worker:{worker.name}"
        if key not in present:
            parts.append(self.base_part(worker))
        if ask.model is not None and variant is not None:
            part = self.model_part(worker.name, ask.model, variant)
            if part.key not in present:
                parts.append(part)
        return parts

    def model_part(self, worker: str, model: Model, variant: Variant) -> Part:
        """What a model needs in a worker."""
        cost = model.cost_key(variant)
        use = self.costs.use_bytes(cost, variant.bytes)
        load = self.costs.load_bytes(cost, variant.bytes, variant.load_bytes)
        return Part(f"model:{worker}:{model.key}", Kind.MODEL, cost, load, use, variant.name, model.key)

    def base_part(self, worker: Worker) -> Part:
        """What a worker needs without models."""
        cost = CostKey(worker.name)
        # What overran everything it was given may learn to ask for all there is: not by itself.
        ceiling = max(worker.base_bytes, int(self.ledger.budget_bytes * self.settings.raise_share))
        use = min(ceiling, self.costs.use_bytes(cost, worker.base_bytes))
        load = min(ceiling, self.costs.load_bytes(cost, worker.base_bytes, 0))
        return Part(f"worker:{worker.name}", Kind.WORKER, cost, load, use)

    def needed_bytes(self, ask: Ask, variant: Variant | None) -> int:
        if ask.worker is None:
            return ask.bytes + self._base_beside(ask)
        return sum(part.load_bytes for part in self.missing_parts(ask, variant))

    def _base_beside(self, ask: Ask) -> int:
        """What the worker beside still needs to start; not counted, room would be held by who waits for that."""
        if ask.beside is None or ask.beside not in self.workers:
            return 0
        resident = self.residents.get(ask.beside)
        is_there = resident is not None and not resident.stale and not resident.leaving
        return 0 if is_there else self.base_part(self.worker(ask.beside)).load_bytes

    def needed_now_bytes(self, ask: Ask) -> int:
        """The same in the variant that is in force."""
        return self.needed_bytes(ask, self.variant(ask.model) if ask.model else None)

    def reload_seconds(self, ask: Ask) -> float:
        """How long its worker takes to start; 0 without one."""
        habits = self.habits.get(ask.worker) if ask.worker else None
        return habits.reload_seconds if habits else 0.0

    @property
    def leaving_bytes(self) -> int:
        """What comes back once those told to end are gone."""
        return sum(self.ledger.bytes_of_worker(r.name) for r in self.residents.values() if r.leaving)

    @property
    def settling_bytes(self) -> int:
        """What comes back once the loads in progress are done."""
        return sum(r.settling_bytes for r in self.residents.values() if not r.leaving)

    def obtainable_bytes(self, ask: Ask) -> int:
        """The most that could ever be free for this ask: all but the host, the pinned and its own worker."""
        kept = 0
        for entry in self.ledger.entries():
            resident = self.residents.get(entry.worker) if entry.worker else None
            if resident is None:
                kept += 0 if entry.kind in TRANSIENT else entry.bytes
            elif not resident.leaving:
                stands_on = resident.name in (ask.worker, ask.beside) and (ask.inside or not resident.stale)
                kept += entry.bytes if resident.pinned or stands_on else 0
        return self.ledger.target_bytes - kept

    def holders(self, count: int = 5) -> tuple[Holder, ...]:
        """Who holds most, largest first."""
        sizes: Counter[tuple[str, str]] = Counter()
        for entry in self.ledger.entries():
            if entry.worker:
                sizes[entry.worker, self.residents[entry.worker].state] += entry.bytes
            else:
                state = "in flight" if entry.kind in TRANSIENT else "fixed"
                sizes[entry.kind.value, state] += entry.bytes
        return tuple(Holder(name, size, state) for (name, state), size in sizes.most_common(count))
