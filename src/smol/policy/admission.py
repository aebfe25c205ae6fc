"""Who may load what, and who waits: admit, evict idle, degrade, queue until the deadline, refuse.

Waiting callers are served first come, first served, with two exceptions that keep swapping rare:

- *Grouping.* A call for a model that is loaded joins it although others wait for that room, until the
  patience of one of them is over: a multiple of its reload time, and never later than its deadline allows.
  Then the worker closes: it finishes what is in flight and goes, and all who wait for the next one come in.
- *Anticipation.* A worker that is called again at once each time is given that moment before it is evicted
  (as Iyer and Druschel's anticipatory disk scheduling does), within the same patience.

Loads whose peaks do not fit together follow one another: the peak is reserved until `loaded` is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from smol.errors import AlreadyExists
from smol.policy.books import Books
from smol.policy.decisions import Admit, Decision, Degrade, Evict, Queue, mib
from smol.policy.eviction import choose_idle, evictable
from smol.policy.ledger import Kind
from smol.policy.pressure import Level
from smol.policy.waiting import Grant, Waiter, refusal, what_is_coming, why_evicted
from smol.policy.workers import PAUSED, Ask, Part, Resident, Variant

__all__ = ["Admission"]

GAP_SLACK = 2.0
"""Anticipation waits this many usual gaps."""


class Admission:
    """The queue and the grants in force."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.queue: dict[str, Waiter] = {}
        self.grants: dict[str, Grant] = {}
        self._closing: set[str] = set()

    # Calls for what is loaded already: the path of every warm call.

    def is_open(self, resident: Resident) -> bool:
        """Whether it takes more calls."""
        return not (resident.leaving or resident.stale or resident.name in self._closing)

    def joins(self, ask: Ask, resident: Resident) -> bool:
        """Whether the ask needs nothing but to be counted."""
        if not (self.is_open(resident) or (ask.inside and not resident.leaving)):
            return False
        return ask.model is None or f"model:{resident.name}:{ask.model.key}" in resident.parts

    def join(self, ask: Ask, resident: Resident, now: float) -> Admit:
        """Count one more call in flight; the ticket is new, or the one that is being taken from the queue."""
        variant = None
        if ask.model is not None:
            variant = resident.parts[f"model:{resident.name}:{ask.model.key}"].variant
        self.enter(ask.ticket, resident, (), now, ask.keep_alive_seconds)
        return Admit(ask.ticket, resident.name, variant, False, 0, "it is loaded already")

    # Everything else.

    def ask(self, ask: Ask, now: float, out: list[Decision], held: str = "") -> None:
        """Admit, queue or refuse. Raises AlreadyExists when the ticket is in use.

        held: a ticket whose room is given up for it, and goes to nobody else first.
        """
        if ask.ticket in self.grants or ask.ticket in self.queue:
            raise AlreadyExists(f"the ticket {ask.ticket!r} is in use; give each ask its own")
        waiter = Waiter(ask, now)
        self.finished(held, now)
        if ask.deadline <= now:
            out.append(refusal(self._books, waiter, now, "its deadline has passed already"))
        elif len(self.queue) >= self._books.settings.queue_length:
            out.append(refusal(self._books, waiter, now, f"{len(self.queue)} others wait already, as many as may"))
        elif self._books.level is Level.HARD and not self._small(ask) and not self._joinable(ask):
            out.append(refusal(self._books, waiter, now, self._books.level_reason))
        elif not (held and self._place(waiter, 0, now, out)):
            self.queue[ask.ticket] = waiter
            self.pump(now, out)

    def pump(self, now: float, out: list[Decision]) -> None:
        """Serve who can be served, make room for who cannot, refuse whose deadline has come."""
        self._close_for_impatient(now)
        claimed_bytes = 0
        claimants: set[str] = set()
        stuck: set[tuple[str, str | None, bool]] = set()
        for waiter in tuple(self.queue.values()):
            ask = waiter.ask
            if ask.deadline <= now:
                del self.queue[ask.ticket]
                out.append(refusal(self._books, waiter, now, "no room came free before its deadline"))
                continue
            impatient = self.patience_at(waiter) <= now
            wish = (ask.worker or ask.ticket, ask.model.key if ask.model else None, impatient)
            if wish in stuck:
                self._wait(waiter, "others wait for the same already", out)
            elif self._place(waiter, claimed_bytes, now, out):
                del self.queue[ask.ticket]
            else:
                stuck.add(wish)
                if (waiter.claims or impatient) and wish[0] not in claimants:
                    claimants.add(wish[0])
                    claimed_bytes += self._books.needed_now_bytes(ask)
        for resident in self._books.residents.values():
            if (resident.stale or resident.name in self._closing) and evictable(resident):
                why = resident.stale or "a caller whose patience is over needs its room"
                self._evict((resident,), f"{resident.name} has finished what was in flight: {why}", None, out)

    def finished(self, ticket: str, now: float) -> None:
        """A granted ticket is done, well or badly; unknown ones are ignored, for their worker may be gone."""
        grant = self.grants.pop(ticket, None)
        if grant is None:
            return
        if grant.key is not None:
            self._books.ledger.release(grant.key)
        resident = grant.resident
        if resident is not None and resident.in_flight:
            resident.in_flight -= 1
            resident.idle_since = now
            resident.habits.saw_call(now - grant.since, now)

    def forget(self, resident: Resident) -> None:
        """Its process is gone: its tickets count no more."""
        for ticket in [t for t, grant in self.grants.items() if grant.resident is resident]:
            del self.grants[ticket]
        self._closing.discard(resident.name)

    def patience_at(self, waiter: Waiter) -> float:
        """When others stop going first."""
        settings = self._books.settings
        reload_seconds = self._books.reload_seconds(waiter.ask)
        patience = settings.patience_reloads * reload_seconds
        patience = min(max(patience, settings.patience_min_seconds), settings.patience_max_seconds)
        busy = (r.habits.hold_seconds for r in self._books.residents.values() if r.in_flight)
        due = waiter.ask.urgent_at if waiter.ask.urgent_at is not None else waiter.ask.deadline
        latest = due - 2 * reload_seconds - max(busy, default=0.0)
        return max(waiter.asked_at, min(waiter.asked_at + patience, latest))

    def wake_times(self, now: float) -> Iterator[float]:
        """When to pump again if nothing else happens."""
        for waiter in self.queue.values():
            patience_at = self.patience_at(waiter)
            yield waiter.ask.deadline
            if patience_at > now:
                yield patience_at
            for resident in self._books.residents.values():
                settled_at = resident.ready_at + resident.habits.reload_seconds
                if not resident.loading and settled_at > now:
                    yield settled_at
                if evictable(resident) and now < (hold := self._held_until(resident, waiter)):
                    yield hold

    # One waiter.

    def _place(self, waiter: Waiter, claimed_bytes: int, now: float, out: list[Decision]) -> bool:
        """Admit (true) or refuse (true) a waiter, or do what makes room for it (false)."""
        books, ask = self._books, waiter.ask
        resident = books.residents.get(ask.worker) if ask.worker else None
        if resident is not None and self.joins(ask, resident):
            out.append(self.join(ask, resident, now))
            return True
        if resident is not None and not self.is_open(resident):
            if ask.inside and resident.leaving:
                out.append(refusal(books, waiter, now, f"{resident.name} is about to end: {resident.leaving}"))
                return True
            if not ask.inside:
                return self._wait(waiter, f"{resident.name} has to end before it can start again", out)
        if books.level is Level.HARD and not self._small(ask):
            return self._wait(waiter, books.level_reason, out)
        variant = books.variant(ask.model) if ask.model else None
        if variant is not None and variant.name == PAUSED:
            out.append(refusal(self._books, waiter, now, "it is paused to save memory"))
            return True
        if self._fits(ask, variant, claimed_bytes):
            self._admit(waiter, variant, now, out)
            return True
        return self._make_room(waiter, variant, claimed_bytes, now, out)

    def _make_room(
        self, waiter: Waiter, variant: Variant | None, claimed_bytes: int, now: float, out: list[Decision]
    ) -> bool:
        books, ask = self._books, waiter.ask
        needed = books.needed_bytes(ask, variant)
        coming = books.leaving_bytes + books.settling_bytes
        missing = needed + claimed_bytes - books.ledger.free_bytes - coming
        if needed <= books.obtainable_bytes(ask):
            if missing <= 0:
                waiter.claims = True
                return self._wait(waiter, what_is_coming(self._books), out)
            if victims := self._victims(waiter, missing, now):
                waiter.claims = True
                self._evict(victims, why_evicted(victims, waiter, needed, now), ask.ticket, out)
                return self._wait(waiter, f"{', '.join(v.name for v in victims)} must end first", out)
            if self._victims(waiter, missing, now, held=True):
                return self._wait(waiter, "an idle worker is about to be called again", out)
        return self._degrade_queue_or_refuse(waiter, needed, claimed_bytes, now, out)

    def _degrade_queue_or_refuse(
        self, waiter: Waiter, needed: int, claimed_bytes: int, now: float, out: list[Decision]
    ) -> bool:
        books, ask = self._books, waiter.ask
        obtainable = books.obtainable_bytes(ask)
        free = books.ledger.free_bytes + books.leaving_bytes + books.settling_bytes - claimed_bytes
        for step, lower in books.lower(ask.model) if ask.model else ():
            smaller = books.needed_bytes(ask, lower)
            missing = smaller - free
            helps = missing <= 0 or bool(self._victims(waiter, missing, now))
            if smaller <= obtainable and (helps or needed > obtainable):
                self._step_down(ask, step, f"{mib(needed)} do not fit, {mib(smaller)} do", out)
                return self._place(waiter, claimed_bytes, now, out)
        if needed > obtainable:
            reason = f"it needs {mib(needed)} and at most {mib(max(0, obtainable))} can ever be free for it"
            fresh = self._fits_a_fresh_start(ask, needed, obtainable)
            if fresh is not None:
                fresh.stale = (
                    fresh.stale or f"it starts afresh, to make room for {ask.model.key if ask.model else ''}"
                )
                reason = f"it needs {mib(needed)} beside what {fresh.name} has loaded, which now starts afresh"
            out.append(
                refusal(
                    self._books,
                    waiter,
                    now,
                    reason,
                    never=fresh is None,
                    repeat=fresh is not None and ask.repeatable,
                )
            )
            return True
        if ask.repeatable:
            reason = f"it needs {mib(needed)} and those who hold it are busy; its call waits until they are not"
            out.append(refusal(self._books, waiter, now, reason, repeat=True))
            return True
        if ask.inside and not waiter.told and needed > self._freeable_bytes(ask):
            reason = f"it needs {mib(needed)}, and those who hold it wait for room themselves"
            out.append(refusal(self._books, waiter, now, reason))
            return True
        return self._wait(waiter, f"it needs {mib(needed)} and those who hold it are busy", out)

    def _admit(self, waiter: Waiter, variant: Variant | None, now: float, out: list[Decision]) -> None:
        books, ask = self._books, waiter.ask
        if ask.worker is None:
            key = f"{ask.kind.value}:{ask.ticket}"
            books.ledger.reserve(key, ask.kind, ask.bytes)
            self.grants[ask.ticket] = Grant(ask.ticket, None, key, (), now, ask.beside)
            out.append(Admit(ask.ticket, None, None, False, ask.bytes, _were_free(ask, ask.bytes)))
            return
        parts = tuple(books.missing_parts(ask, variant))
        resident = books.residents.get(ask.worker)
        if resident is None:
            worker = books.worker(ask.worker)
            resident = Resident(worker, books.habits[worker.name], books.pinned(worker.name), now)
            books.residents[worker.name] = resident
        for part in parts:
            books.ledger.reserve(part.key, part.kind, part.load_bytes, ask.worker)
            resident.parts[part.key] = part
        size = sum(part.load_bytes for part in parts)
        resident.granted_bytes += size
        if ask.model is not None:
            books.models[ask.model.key] = ask.model
        self.enter(ask.ticket, resident, parts, now, ask.keep_alive_seconds)
        name = variant.name if variant else None
        out.append(Admit(ask.ticket, ask.worker, name, True, size, _were_free(ask, size)))

    def enter(
        self,
        ticket: str,
        resident: Resident,
        parts: tuple[Part, ...],
        now: float,
        keep_alive_seconds: float | None,
    ) -> None:
        """Count one more ticket in flight."""
        if resident.in_flight == 0:
            resident.habits.saw_gap(now)
        resident.in_flight += 1
        if keep_alive_seconds is not None:
            resident.idle_seconds = keep_alive_seconds
        self.grants[ticket] = Grant(ticket, resident, None, parts, now)

    # Small questions.

    def _freeable_bytes(self, ask: Ask) -> int:
        """What comes free, for an ask from inside a call, without anybody else being served first.

        Whoever waits inside a call keeps what it has: were two to wait for each other, neither would end.
        """
        blocked = {waiter.ask.worker for waiter in self.queue.values() if waiter.ask.inside}
        kept = 0
        for entry in self._books.ledger.entries():
            resident = self._books.residents.get(entry.worker) if entry.worker else None
            if resident is None or resident.pinned or resident.name == ask.worker or resident.name in blocked:
                kept += entry.bytes
        return self._books.ledger.target_bytes - kept

    def _fits_a_fresh_start(self, ask: Ask, needed: int, obtainable: int) -> Resident | None:
        """The asker's own worker, if the other models in it are what is in the way."""
        resident = self._books.residents.get(ask.worker) if ask.inside and ask.worker else None
        if resident is None or resident.pinned:
            return None
        others = sum(self._books.ledger.bytes_of(p.key) for p in resident.parts.values() if p.model is not None)
        return resident if needed <= obtainable + others else None

    def _fits(self, ask: Ask, variant: Variant | None, claimed_bytes: int) -> bool:
        books = self._books
        needed, free = books.needed_bytes(ask, variant), books.ledger.free_bytes
        if needed > free:
            return False
        if self._small(ask):
            return True  # it is gone in a moment; those who wait for much do not wait for this
        if ask.inside or any(grant.beside == ask.worker for grant in self.grants.values() if grant.beside):
            return True  # others may wait for what it holds, or what is held for it
        closing = sum(books.ledger.bytes_of_worker(name) for name in self._closing)
        return needed + claimed_bytes <= free + books.leaving_bytes + books.settling_bytes + closing

    def _close_for_impatient(self, now: float) -> None:
        """Choose the busy workers that must take no more calls for the first impatient waiter to get in."""
        books = self._books
        self._closing.clear()
        for waiter in self.queue.values():
            resident = books.residents.get(waiter.ask.worker) if waiter.ask.worker else None
            if self.patience_at(waiter) > now or (resident is not None and self.joins(waiter.ask, resident)):
                continue
            missing = self._books.needed_now_bytes(waiter.ask) - books.ledger.free_bytes - books.leaving_bytes
            missing -= books.settling_bytes
            held_for = {grant.beside for grant in self.grants.values()}
            busy = [
                r
                for r in books.residents.values()
                if not (r.pinned or r.leaving or r is resident or r.name in held_for)
                and now >= r.ready_at + r.habits.reload_seconds  # It came for a reason.
            ]
            for other in sorted(busy, key=lambda r: (r.in_flight * r.habits.hold_seconds, r.name)):
                if missing <= 0:
                    return
                self._closing.add(other.name)
                missing -= books.ledger.bytes_of_worker(other.name) - other.settling_bytes
            return

    def _victims(self, waiter: Waiter, missing: int, now: float, *, held: bool = False) -> tuple[Resident, ...]:
        kept = {waiter.ask.worker, waiter.ask.beside, *(grant.beside for grant in self.grants.values())}
        others = (
            r
            for r in self._books.residents.values()
            if r.name not in kept and (held or now >= self._held_until(r, waiter))
        )
        return choose_idle(others, missing, self._books.ledger.bytes_of_worker, now)

    def _held_until(self, resident: Resident, waiter: Waiter) -> float:
        """Until when anticipation keeps an idle worker for the call that usually follows at once."""
        gap = resident.habits.gap_seconds
        if gap is None or GAP_SLACK * gap > self._books.reload_seconds(waiter.ask) or not waiter.ask.worker:
            return resident.idle_since
        return min(resident.idle_since + GAP_SLACK * gap, self.patience_at(waiter))

    def _small(self, ask: Ask) -> bool:
        is_body = ask.kind is Kind.BODY and ask.worker is None
        return is_body and ask.bytes <= self._books.settings.small_body_bytes

    def _joinable(self, ask: Ask) -> bool:
        resident = self._books.residents.get(ask.worker) if ask.worker else None
        return resident is not None and self.joins(ask, resident)

    # Words.

    def _wait(self, waiter: Waiter, reason: str, out: list[Decision]) -> bool:
        if not waiter.told:
            waiter.told = True
            out.append(Queue(waiter.ask.ticket, waiter.ask.deadline, reason))
        return False

    def _evict(self, victims: tuple[Resident, ...], reason: str, ticket: str | None, out: list[Decision]) -> None:
        names = tuple(victim.name for victim in victims)
        size = sum(self._books.ledger.bytes_of_worker(name) for name in names)
        for victim in victims:
            victim.leaving = reason
        out.append(Evict(names, size, reason, ticket))

    def _step_down(self, ask: Ask, step: int, reason: str, out: list[Decision]) -> None:
        if ask.model is None:
            return
        model, variants = ask.model, ask.model.variants
        for index in range(self._books.steps.get(model.key, 0), step):
            self._books.steps[model.key] = index + 1
            down = Degrade(model.unit, model.name, variants[index].name, variants[index + 1].name, reason)
            out.append(down)
        self._books.models[model.key] = model


def _were_free(ask: Ask, size_bytes: int) -> str:
    what = ask.model.key if ask.model else ask.worker or ask.ticket.partition(" #")[0]
    return f"{mib(size_bytes)} were free for {what}"
