"""Tickets that were admitted, tickets that wait, and the words they are told."""

from __future__ import annotations

from smol.policy.books import Books
from smol.policy.decisions import Refuse, mib
from smol.policy.pressure import Level
from smol.policy.workers import PAUSED, Ask, Part, Resident

__all__ = ["Grant", "Waiter", "refusal", "what_is_coming", "why_evicted"]

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 0.1, 60.0


class Grant:
    """An admitted ticket. parts: what it loads, empty when others do; key: of a transient reservation, and beside:
    the worker that it is held for.
    """

    __slots__ = ("beside", "key", "parts", "resident", "since", "ticket")

    def __init__(
        self,
        ticket: str,
        resident: Resident | None,
        key: str | None,
        parts: tuple[Part, ...],
        since: float,
        beside: str | None = None,
    ) -> None:
        self.ticket = ticket
        self.beside = beside
        self.resident = resident
        self.key = key
        self.parts = parts
        self.since = since


class Waiter:
    """A ticket in the queue. claims: room was made for it, so later ones may not take it."""

    __slots__ = ("ask", "asked_at", "claims", "told")

    def __init__(self, ask: Ask, asked_at: float) -> None:
        self.ask = ask
        self.asked_at = asked_at
        self.claims = False
        self.told = False


def refusal(
    books: Books, waiter: Waiter, now: float, reason: str, *, never: bool = False, repeat: bool = False
) -> Refuse:
    """No, with what was needed, what was free, who holds the rest, and when to ask again."""
    ask = waiter.ask
    retry_ms = None if never else int(_retry_seconds(books, ask, now) * 1000)
    needed = books.needed_now_bytes(ask)
    what = ask.model.key if ask.model else ask.worker or f"a {ask.kind.value} of {mib(ask.bytes)}"
    text = f"no room for {what}: {reason}"
    return Refuse(ask.ticket, needed, books.ledger.free_bytes, books.holders(), retry_ms, text, repeat)


def _retry_seconds(books: Books, ask: Ask, now: float) -> float:
    busy = [r.habits.hold_seconds for r in books.residents.values() if r.in_flight]
    seconds = min(busy, default=0.0) + books.reload_seconds(ask)
    if ask.model and books.variant(ask.model).name == PAUSED:
        seconds = books.trouble_at + books.settings.quiet_seconds - now
    if books.level is Level.HARD:
        seconds = max(seconds, books.settings.step_seconds)
    return min(max(seconds, RETRY_MIN_SECONDS), RETRY_MAX_SECONDS)


def what_is_coming(books: Books) -> str:
    """Whose end, or whose load, a caller waits for."""
    loading = sorted(r.name for r in books.residents.values() if r.loading and not r.leaving)
    leaving = sorted(r.name for r in books.residents.values() if r.leaving)
    parts = [f"{', '.join(leaving)} to end"] if leaving else []
    parts += [f"the load of {', '.join(loading)} to pass its peak"] if loading else []
    return f"it waits for {' and '.join(parts) or 'those before it'}"


def why_evicted(victims: tuple[Resident, ...], waiter: Waiter, needed: int, now: float) -> str:
    """Who goes, since when it idles, and for whom."""
    ask = waiter.ask
    idle = ", ".join(f"{v.name} (idle {max(0.0, now - v.idle_since):.1f} s)" for v in victims)
    what = ask.model.key if ask.model else ask.worker or f"a {ask.kind.value}"
    return f"{idle} makes room for {what}, which needs {mib(needed)}"
