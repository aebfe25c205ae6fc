"""What the governor does between calls: overruns, leaks, pressure, idle unloading, steps up a ladder.

Each function takes the books, looks at one thing and appends what it decides. None of them admits anyone.
"""

from __future__ import annotations

from smol.policy.books import Books
from smol.policy.costs import MARGIN_FLOOR_BYTES, MARGIN_SURE
from smol.policy.decisions import MIB, Decision, Degrade, Evict, Kill, Raise, Restore, Trim, Warn, mib
from smol.policy.eviction import evictable, score
from smol.policy.pressure import Level, Sample, judge
from smol.policy.workers import Model, Resident

__all__ = ["Pressure", "evict", "learn", "restore_one", "review", "unload_idle"]


def _tolerance_bytes(reserved_bytes: int) -> int:
    """How far over a reservation is noise: 2 %, at least 1 MiB."""
    return max(MIB, reserved_bytes // 50)


def review(books: Books, resident: Resident, now: float, out: list[Decision]) -> None:
    """Compare a fresh measurement with the reservation: warn, raise if there is room, else end."""
    ledger, settings, size = books.ledger, books.settings, resident.measured_bytes
    if not resident.loading:
        _watch_for_leak(resident, now, out)
    reserved = ledger.bytes_of_worker(resident.name)
    if size <= reserved + _tolerance_bytes(reserved):
        resident.over_since = None
        return
    is_first = resident.over_since is None
    over = f"{resident.name} uses {mib(size)} of {mib(reserved)} reserved"
    if is_first:
        resident.over_since = now
        out.append(Warn(resident.name, reserved, size, over))
    ceiling = max(resident.granted_bytes, int(ledger.budget_bytes * settings.raise_share))
    wanted = size + max(MARGIN_FLOOR_BYTES, int(size * MARGIN_SURE))
    granted = min(wanted, reserved + ledger.free_bytes, ceiling)
    if granted >= size:
        key = f"worker:{resident.name}"
        ledger.resize(key, ledger.bytes_of(key) + granted - reserved)
        resident.over_since = None
        out.append(Raise(resident.name, reserved, granted, f"{over}; {mib(granted - reserved)} were free"))
        return
    since = now if resident.over_since is None else resident.over_since
    if now - since >= settings.grace_seconds or books.level is Level.HARD:
        limit = f"its limit is {mib(ceiling)}" if size > ceiling else f"{mib(ledger.free_bytes)} are free"
        _kill(books, resident, f"{over} and cannot grow: {limit}", out)


def _watch_for_leak(resident: Resident, now: float, out: list[Decision]) -> None:
    watch = resident.leak
    if watch is None or not watch.add(now, resident.measured_bytes) or resident.stale:
        return
    if reason := watch.verdict():
        if not resident.pinned:
            resident.stale = f"it leaks memory, {reason}"
        out.append(Warn(resident.name, 0, resident.measured_bytes, f"{resident.name} leaks memory: {reason}"))


def _kill(books: Books, resident: Resident, reason: str, out: list[Decision]) -> None:
    resident.leaving = reason
    reserved = books.ledger.bytes_of_worker(resident.name)
    out.append(Kill(resident.name, reserved, resident.measured_bytes, reason))


def learn(books: Books, resident: Resident) -> None:
    """Take its peaks into the costs. With several models nothing can be told apart, so nothing is learned."""
    base = next((p for p in resident.parts.values() if p.model is None), None)
    models = [p for p in resident.parts.values() if p.model is not None]
    if base is None or len(models) > 1:
        return
    below = base.settled_bytes if models else 0
    part = models[0] if models else base
    books.costs.learn(
        part.cost,
        load_bytes=max(0, resident.load_peak_bytes - below),
        use_bytes=max(0, resident.peak_bytes - below),
    )


def unload_idle(books: Books, now: float, out: list[Decision]) -> None:
    """Evict who has not been called for its idle_seconds."""
    for resident in books.residents.values():
        limit = resident.idle_seconds
        if limit is not None and evictable(resident) and now >= resident.idle_since + limit:
            evict(books, resident, f"{resident.name} was idle for {now - resident.idle_since:.0f} s", out)


def evict(books: Books, resident: Resident, reason: str, out: list[Decision]) -> None:
    """Tell an idle worker to end."""
    resident.leaving = reason
    out.append(Evict((resident.name,), books.ledger.bytes_of_worker(resident.name), reason))


def restore_one(books: Books, now: float, out: list[Decision]) -> bool:
    """After a quiet while, one model goes one step up, if that leaves the budget below the soft mark."""
    quiet = books.settings.quiet_seconds
    if books.level is not Level.CALM or now < books.trouble_at + quiet:
        return False
    ledger = books.ledger
    for key, step in books.steps.items():
        model = books.models[key]
        better, worse = model.variants[step - 1], model.variants[step]
        use = books.costs.use_bytes(model.cost_key(better), better.bytes)
        holding = [r for r in books.residents.values() if any(p.model == key for p in r.parts.values())]
        freed = sum(ledger.bytes_of(p.key) for r in holding for p in r.parts.values() if p.model == key)
        if ledger.reserved_bytes - freed + use > books.settings.marks.soft * ledger.budget_bytes:
            continue
        if step == 1:
            del books.steps[key]
        else:
            books.steps[key] = step - 1
        books.trouble_at = now  # the next step up waits for a quiet while of its own
        reason = f"{quiet:.0f} s were quiet and {mib(use)} fit below the soft mark"
        out.append(Restore(model.unit, model.name, worse.name, better.name, reason))
        for resident in holding:
            if not resident.pinned:
                resident.stale = resident.stale or f"{key} goes back to {better.name}"
        return True
    return False


class Pressure:
    """The ladder of measures against a shortage, one step at a time so that each can show its effect.

    Soft: trim, then evict an idle worker, then step a model down. Hard: all idle workers at once, and the
    worker most above its reservation is killed; one within its reservation never is, nor is the host.
    """

    def __init__(self) -> None:
        self._trimmed_at = float("-inf")
        self._stepped_at = float("-inf")

    def weigh(self, books: Books, sample: Sample, now: float, out: list[Decision]) -> None:
        books.level, books.level_reason = judge(sample, books.ledger.budget_bytes, books.settings.marks)
        if books.level is Level.CALM:
            return
        books.trouble_at = now
        reason = books.level_reason
        if books.level is Level.HARD and (guilty := _most_over(books)):
            _kill(books, guilty, f"{reason}; {guilty.name} is most above its reservation", out)
        if now - self._trimmed_at >= books.settings.trim_seconds:
            self._trimmed_at = self._stepped_at = now
            out.append(Trim(reason))
            if books.level is Level.SOFT:
                return
        idle = sorted(filter(evictable, books.residents.values()), key=lambda r: score(r, now), reverse=True)
        if books.level is Level.HARD and idle:
            for resident in idle:
                evict(books, resident, f"{reason}; {resident.name} is idle", out)
            self._stepped_at = now
        elif _most_over(books):
            return  # Nobody else goes for one that is over its reservation, and is dealt with.
        elif now - self._stepped_at >= books.settings.step_seconds and not books.leaving_bytes:
            self._stepped_at = now
            if idle:
                evict(books, idle[0], f"{reason}; {idle[0].name} is idle and cheapest to miss", out)
            else:
                _step_down_largest(books, reason, out)


def _most_over(books: Books) -> Resident | None:
    """The worker furthest above its reservation, if any is by more than noise."""
    worst, worst_bytes = None, 0
    for resident in books.residents.values():
        reserved = books.ledger.bytes_of_worker(resident.name)
        over = resident.measured_bytes - reserved
        if not resident.leaving and over > _tolerance_bytes(reserved) and over > worst_bytes:
            worst, worst_bytes = resident, over
    return worst


def _step_down_largest(books: Books, reason: str, out: list[Decision]) -> None:
    """The step that saves most, among the models that unpinned workers hold."""
    best: tuple[int, Resident, Model] | None = None
    for resident in books.residents.values():
        if resident.pinned or resident.leaving or resident.stale:
            continue
        for part in resident.parts.values():
            model = books.models.get(part.model) if part.model else None
            step = books.steps.get(model.key, 0) if model else 0
            if model is None or step + 1 >= len(model.variants):
                continue
            saved = model.variants[step].bytes - model.variants[step + 1].bytes
            if best is None or saved > best[0]:
                best = (saved, resident, model)
    if best is None:
        return
    saved, resident, model = best
    step = books.steps.get(model.key, 0)
    books.steps[model.key] = step + 1
    old, new = model.variants[step].name, model.variants[step + 1].name
    resident.stale = f"{model.key} steps down from {old} to {new}"
    out.append(Degrade(model.unit, model.name, old, new, f"{reason}; this saves {mib(saved)}"))
