"""All scopes together: versions, expiry, the limit of all, and what changed lately.

Plain state, no event loop: the unit calls it from one, so that each call is atomic. Values are copied
through JSON text on the way in and out, so that nobody shares a list with a register.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from smol.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from smol.types import Attachment, Json
from smol.units.registers.records import (
    DATA_BYTES_MAX,
    JSON_BYTES_MAX,
    Change,
    Kind,
    Limits,
    Register,
    accepts,
    kind_of,
)
from smol.units.registers.scope import Scope, Slot

__all__ = ["Memory", "checked_size", "encoded", "make_slot"]

Reason = Literal["set", "deleted", "expired", "evicted"]


class _Event(NamedTuple):
    sequence: int
    scope: str
    name: str
    reason: Reason


class Memory:
    """Registers of all scopes, within `limits`. clock: seconds since 1970."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self.scopes: dict[str, Scope] = {}
        self.sequence = 0
        self.size_bytes = 0
        self._events: deque[_Event] = deque(maxlen=limits.kept_changes)
        self._expiries: list[tuple[float, int, str, str]] = []

    # Values -------------------------------------------------------------------------------------

    def put(
        self,
        scope: str,
        name: str,
        value: Json | Attachment,
        *,
        kind: Kind | None = None,
        ttl_seconds: float | None = None,
        expected_version: int | None = None,
    ) -> Register:
        """Store a value. Without `ttl_seconds`, a former expiry is lifted.

        Raises FailedPrecondition (another kind), Aborted, AlreadyExists, NotFound (version),
        ResourceExhausted, InvalidArgument.
        """
        self.expire()
        old = self._slot(scope, name)
        _compare(name, old.version if old else 0, expected_version)
        if old is not None and kind not in (None, old.kind):
            raise FailedPrecondition(f"register {name!r} is of kind {old.kind}, not {kind}; delete it first")
        kind = old.kind if old else kind or kind_of(value)
        if not accepts(kind, value):
            raise FailedPrecondition(
                f"register {name!r} holds {kind}, not {kind_of(value)}; delete it first, or make it "
                "of kind 'number' or 'any'",
                kind=kind,
            )
        if ttl_seconds is not None and not 0 < ttl_seconds <= 10**10:
            raise InvalidArgument(f"ttl_seconds must be above 0 and at most 10^10, not {ttl_seconds}")
        expires_at = None if ttl_seconds is None else self._clock() + ttl_seconds
        return self.view(scope, name, self._store(scope, name, make_slot(kind, value, expires_at)))

    def get(self, scope: str, name: str) -> Slot:
        """Raises NotFound."""
        self.expire()
        slot = self._slot(scope, name)
        if slot is None:
            raise NotFound(f"there is no register {name!r} in scope {scope!r}", scope=scope, name=name)
        return slot

    def find(self, scope: str, name: str) -> Slot | None:
        self.expire()
        return self._slot(scope, name)

    def replace(self, scope: str, name: str, slot: Slot) -> Register:
        """Give a register a new slot, made from its old one."""
        return self.view(scope, name, self._store(scope, name, slot))

    def remove(self, scope: str, name: str, reason: Reason) -> bool:
        """Take a register away, and its scope when that is empty and was not configured."""
        home = self.scopes.get(scope)
        slot = home.remove(name) if home else None
        if home is None or slot is None:
            return False
        self.size_bytes -= slot.size_bytes
        if not home.slots and not home.configured:
            del self.scopes[scope]
        self._note(scope, name, reason)
        return True

    def scope(self, name: str) -> Scope:
        """A scope that is there, or a new one that is not among `scopes` yet.

        Raises ResourceExhausted beyond `max_scopes`.
        """
        found = self.scopes.get(name)
        if found is not None:
            return found
        if len(self.scopes) >= self.limits.max_scopes:
            raise ResourceExhausted(
                f"there are {len(self.scopes)} scopes, the most allowed; clear one first",
                limit=self.limits.max_scopes,
            )
        return Scope(name, self.limits.scope_max_registers, self.limits.scope_max_bytes)

    def expire(self) -> None:
        """Remove what is past its time."""
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            _, version, scope, name = heapq.heappop(self._expiries)
            slot = self._slot(scope, name)
            if slot is not None and slot.version == version:
                self.remove(scope, name, "expired")

    def next_expiry(self) -> float | None:
        return self._expiries[0][0] if self._expiries else None

    # Changes ------------------------------------------------------------------------------------

    def changes_since(self, since: int, scope: str | None, prefix: str) -> list[Change]:
        """The newest state of each register changed after `since`, oldest change first.

        Raises FailedPrecondition when changes after `since` are forgotten, or lie in the future (the
        registers were lost meanwhile).
        """
        if since > self.sequence:
            raise FailedPrecondition(
                f"change {since} has not happened; the registers were lost in a restart. List them, then watch",
                sequence=self.sequence,
            )
        if self._events and since < self._events[0].sequence - 1:
            raise FailedPrecondition(
                f"changes before {self._events[0].sequence} are forgotten; list the registers, then watch",
                sequence=self.sequence,
            )
        newest: dict[tuple[str, str], _Event] = {}
        for event in reversed(self._events):
            if event.sequence <= since:
                break
            if scope in (None, event.scope) and event.name.startswith(prefix):
                newest.setdefault((event.scope, event.name), event)
        return [self._change(event) for event in reversed(newest.values())]

    def view(self, scope: str, name: str, slot: Slot) -> Register:
        attachment = slot.value if isinstance(slot.value, Attachment) else None
        return Register(
            scope=scope,
            name=name,
            kind=slot.kind,
            version=slot.version,
            bytes=slot.size_bytes,
            value=None if isinstance(slot.value, Attachment) else msgspec.json.decode(slot.value),
            attachment=attachment,
            expires_at=slot.expires_at,
        )

    def _change(self, event: _Event) -> Change:
        slot = self._slot(event.scope, event.name) if event.reason == "set" else None
        register = None if slot is None else self.view(event.scope, event.name, slot)
        return Change(
            sequence=event.sequence, scope=event.scope, name=event.name, reason=event.reason, register=register
        )

    # Inner parts --------------------------------------------------------------------------------

    def _slot(self, scope: str, name: str) -> Slot | None:
        home = self.scopes.get(scope)
        return None if home is None else home.use(name)

    def _store(self, scope: str, name: str, slot: Slot) -> Slot:
        """Put a slot in its place, after making room for it; gives it its version."""
        home = self.scope(scope)
        old = home.slots.get(name)
        victims = home.make_room(name, slot.size_bytes)
        freed = sum(home.slots[victim].size_bytes for victim in victims) + (old.size_bytes if old else 0)
        total = self.size_bytes - freed + slot.size_bytes
        if total > self.limits.max_bytes and slot.size_bytes > freed:
            raise ResourceExhausted(
                f"all registers would hold {total} bytes, {self.limits.max_bytes} are allowed; delete some",
                limit=self.limits.max_bytes,
                needed=total,
            )
        count = sum(len(other.slots) for other in self.scopes.values()) - len(victims)
        if old is None and count >= self.limits.max_registers:
            raise ResourceExhausted(
                f"there are {count} registers, the most allowed; delete some", limit=self.limits.max_registers
            )
        for victim in victims:
            self.remove(scope, victim, "evicted")
        self.size_bytes += slot.size_bytes - (old.size_bytes if old else 0)
        self.scopes[scope] = home
        home.store(name, slot)
        slot.version = self._note(scope, name, "set")
        if slot.expires_at is not None:
            heapq.heappush(self._expiries, (slot.expires_at, slot.version, scope, name))
            self._trim_expiries()
        return slot

    def _trim_expiries(self) -> None:
        """Forget expiries of values that were replaced, once they are the greater part."""
        if len(self._expiries) > 64 + 2 * sum(len(scope.slots) for scope in self.scopes.values()):
            live = []
            for entry in self._expiries:
                slot = self.scopes[entry[2]].slots.get(entry[3]) if entry[2] in self.scopes else None
                if slot is not None and slot.version == entry[1]:
                    live.append(entry)
            heapq.heapify(live)
            self._expiries = live

    def _note(self, scope: str, name: str, reason: Reason) -> int:
        self.sequence += 1
        self._events.append(_Event(self.sequence, scope, name, reason))
        return self.sequence


def _compare(name: str, version: int, expected: int | None) -> None:
    """Raises AlreadyExists, NotFound or Aborted when `version` is not the expected one; 0 is not there."""
    if expected is None or expected == version:
        return
    if expected == 0:
        raise AlreadyExists(f"register {name!r} exists, at version {version}", version=version)
    if version == 0:
        raise NotFound(f"register {name!r} does not exist, expected version {expected}")
    raise Aborted(f"register {name!r} is at version {version}, not {expected}; read it again", version=version)


def make_slot(kind: Kind, value: Json | Attachment, expires_at: float | None) -> Slot:
    """A slot with a copy of `value`. Raises InvalidArgument for what is not JSON, or too large."""
    if isinstance(value, Attachment):
        if len(value) > DATA_BYTES_MAX:
            raise InvalidArgument(f"{len(value)} bytes are beyond the {DATA_BYTES_MAX} of a register; use storage")
        return Slot(kind, Attachment(bytes(value.data), value.media_type, value.name), 0, 0, expires_at)
    length = len(value) if isinstance(value, (list, str)) else 0
    return Slot(kind, encoded(value), length, 0, expires_at)


def encoded(value: Json) -> bytes:
    """JSON text. Raises InvalidArgument for what is not JSON, or too large."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"JSON has no {value}")
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidArgument(f"a register holds JSON or an attachment: {error}") from None
    return checked_size(text)


def checked_size(text: bytes) -> bytes:
    """Raises InvalidArgument when a JSON text is too large for a register."""
    if len(text) > JSON_BYTES_MAX:
        raise InvalidArgument(f"a value of {len(text)} bytes is beyond the {JSON_BYTES_MAX} of one; use storage")
    return text
