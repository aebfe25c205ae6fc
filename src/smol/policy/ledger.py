"""The book of reservations: who was promised how many bytes. The sum never exceeds the budget.

It does not decide; a promise that does not fit is an error of the caller, who has to ask `free_bytes` first.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from smol.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from smol.policy.decisions import mib

__all__ = ["Kind", "Ledger", "Reservation"]


class Kind(StrEnum):
    """What a reservation is for."""

    HOST = "host"
    ZYGOTE = "zygote"
    WORKER = "worker"
    MODEL = "model"
    SANDBOX = "sandbox"
    PROBE = "probe"
    BODY = "body"
    CACHE = "cache"


class Reservation(msgspec.Struct, frozen=True):
    """Bytes promised. worker: who releases it by ending, or None when it belongs to no worker."""

    key: str
    kind: Kind
    bytes: int
    worker: str | None = None


class Ledger:
    """Reservations by key, with running sums.

    A budget lowered below what is already promised takes effect as promises are released: until then
    `budget_bytes` stands at their sum, nothing is free, and `target_bytes` says where it is going.
    """

    def __init__(self, budget_bytes: int) -> None:
        if budget_bytes <= 0:
            raise InvalidArgument(f"the budget is {budget_bytes} bytes; give a positive number")
        self.target_bytes = budget_bytes
        self.budget_bytes = budget_bytes
        self.reserved_bytes = 0
        self._entries: dict[str, Reservation] = {}
        self._by_worker: dict[str, dict[str, int]] = {}

    @property
    def free_bytes(self) -> int:
        return self.budget_bytes - self.reserved_bytes

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def entries(self) -> tuple[Reservation, ...]:
        return tuple(self._entries.values())

    def bytes_of(self, key: str) -> int:
        """Bytes promised under this key; 0 when there is no such promise."""
        entry = self._entries.get(key)
        return entry.bytes if entry else 0

    def bytes_of_worker(self, worker: str) -> int:
        """Bytes promised to a worker and everything it has loaded."""
        return sum(self._by_worker.get(worker, {}).values())

    def reserve(self, key: str, kind: Kind, size_bytes: int, worker: str | None = None) -> None:
        """Promise bytes. Raises AlreadyExists, InvalidArgument, or ResourceExhausted when they do not fit."""
        if key in self._entries:
            raise AlreadyExists(f"{key!r} is reserved already; resize it or release it first")
        self._fits(key, size_bytes, 0)
        self._write(Reservation(key, kind, size_bytes, worker), size_bytes)

    def resize(self, key: str, size_bytes: int) -> None:
        """Change a promise. Raises NotFound, InvalidArgument, or ResourceExhausted when it does not fit."""
        old = self._entries.get(key)
        if old is None:
            raise NotFound(f"there is no reservation {key!r}; reserve it first")
        self._fits(key, size_bytes, old.bytes)
        self._write(Reservation(key, old.kind, size_bytes, old.worker), size_bytes - old.bytes)
        self._settle_budget()

    def release(self, key: str) -> int:
        """Drop a promise and return its bytes; 0 when there was none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return 0
        if entry.worker is not None:
            keys = self._by_worker[entry.worker]
            del keys[key]
            if not keys:
                del self._by_worker[entry.worker]
        self.reserved_bytes -= entry.bytes
        self._settle_budget()
        return entry.bytes

    def release_worker(self, worker: str) -> int:
        """Drop everything promised to a worker and return the bytes."""
        return sum(self.release(key) for key in tuple(self._by_worker.get(worker, ())))

    def set_budget(self, budget_bytes: int) -> None:
        """Change the budget at once where it fits, else as promises are released. Raises InvalidArgument."""
        if budget_bytes <= 0:
            raise InvalidArgument(f"the budget is {budget_bytes} bytes; give a positive number")
        self.target_bytes = budget_bytes
        self._settle_budget()

    def _settle_budget(self) -> None:
        self.budget_bytes = max(self.target_bytes, self.reserved_bytes)

    def _fits(self, key: str, size_bytes: int, already_bytes: int) -> None:
        if size_bytes < 0:
            raise InvalidArgument(f"{key!r} asks for {size_bytes} bytes; give zero or more")
        if size_bytes - already_bytes > max(0, self.free_bytes):
            raise ResourceExhausted(
                f"{key!r} needs {mib(size_bytes - already_bytes)} and {mib(self.free_bytes)} are free",
                needed_bytes=size_bytes - already_bytes,
                free_bytes=self.free_bytes,
            )

    def _write(self, entry: Reservation, grown_bytes: int) -> None:
        self._entries[entry.key] = entry
        if entry.worker is not None:
            self._by_worker.setdefault(entry.worker, {})[entry.key] = entry.bytes
        self.reserved_bytes += grown_bytes
