"""Who goes first when room is needed: idle workers by idle seconds / (reload seconds x weight).

The same idea as GreedyDual-Size caches (Cao and Irani 1997): cheap to bring back and long unused goes first.
Pinned workers, workers with calls in flight, loading ones and ones already leaving are never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from smol.policy.workers import Resident

__all__ = ["choose_idle", "evictable", "score"]


def evictable(resident: Resident) -> bool:
    """Whether it may be ended now without anybody noticing more than a reload."""
    return not (resident.pinned or resident.in_flight or resident.leaving or resident.loading)


def score(resident: Resident, now: float) -> float:
    """Higher goes first."""
    idle_seconds = max(0.0, now - resident.idle_since)
    return idle_seconds / (resident.habits.reload_seconds * resident.worker.weight)


def choose_idle(
    residents: Iterable[Resident], missing_bytes: int, size: Callable[[str], int], now: float
) -> tuple[Resident, ...]:
    """The fewest high scores that free `missing_bytes`; nothing when all of them together do not.

    size: bytes reserved by a worker of that name.
    """
    chosen: list[Resident] = []
    freed_bytes = 0
    for resident in sorted(filter(evictable, residents), key=lambda r: score(r, now), reverse=True):
        if freed_bytes >= missing_bytes:
            break
        chosen.append(resident)
        freed_bytes += size(resident.name)
    if freed_bytes < missing_bytes:
        return ()
    for resident in reversed(chosen):  # a large one chosen late may have made small ones needless
        if freed_bytes - size(resident.name) >= missing_bytes:
            chosen.remove(resident)
            freed_bytes -= size(resident.name)
    return tuple(chosen)
