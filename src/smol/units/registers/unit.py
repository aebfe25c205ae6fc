"""The registers unit: typed temporary variables.

In memory, and lost when the unit restarts: what must stay belongs into storage. Every operation runs on
the event loop without a pause, so each is atomic.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta

from smol.errors import FailedPrecondition, InvalidArgument, OutOfRange
from smol.sdk import Attachment, Context, Unit, operation
from smol.types import Json
from smol.units.registers.memory import Memory, checked_size, encoded, make_slot
from smol.units.registers.records import Change, Kind, Limits, Name, Register, ScopeInfo, ScopeName
from smol.units.registers.scope import Scope, Slot

__all__ = ["Registers"]

Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
Version: TypeAlias = Annotated[int, Meta(ge=0)]
Number: TypeAlias = int | float
Found: TypeAlias = list[Register]
Scopes: TypeAlias = list[ScopeInfo]


class Registers(Unit):
    """Typed temporary variables in scopes, in memory: gone when the host that runs stops."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._memory = Memory(Limits(), clock)
        self._changed = asyncio.Event()

    async def provision(self, context: Context) -> None:
        try:
            limits = msgspec.convert(dict(context.settings), Limits)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"[units.registers] in smol.toml: {error}") from None
        self._memory = Memory(limits, self._clock)

    async def serve(self, context: Context) -> None:
        """Expire registers in time, so that watchers hear of it."""
        while True:
            self.expire()
            signal, due = self._changed, self._memory.next_expiry()
            with suppress(TimeoutError):
                wait_seconds = None if due is None else max(0.01, due - self._clock())
                await asyncio.wait_for(signal.wait(), wait_seconds)

    def expire(self) -> None:
        """Remove what is past its time and tell who watches."""
        before = self._memory.sequence
        self._memory.expire()
        if self._memory.sequence != before:
            self._tell()

    @operation(idempotent=True)
    async def set(
        self,
        name: Name,
        value: Json = None,
        scope: ScopeName = "global",
        attachment: Attachment | None = None,
        kind: Kind | None = None,
        ttl_seconds: Seconds | None = None,
    ) -> Register:
        """Set a register; its kind is that of its first value, and stays.

        scope: `global`, `session:ID` or `program:ID`.
        attachment: bytes instead of a value.
        kind: of a new register: boolean, integer, number (integers too), text, list, map, bytes, or any.
        ttl_seconds: how long it lives; without it, until it is deleted.
        """
        return self._told(
            self._memory.put(scope, name, _one(value, attachment), kind=kind, ttl_seconds=ttl_seconds)
        )

    @operation(read_only=True)
    async def get(self, name: Name, scope: ScopeName = "global") -> Register:
        """Fetch a register."""
        return self._memory.view(scope, name, self._memory.get(scope, name))

    @operation(idempotent=True, destructive=True)
    async def delete(self, name: Name, scope: ScopeName = "global") -> bool:
        """Delete a register; false when there was none."""
        self._memory.expire()
        removed = self._memory.remove(scope, name, "deleted")
        self._tell()
        return removed

    @operation(read_only=True)
    async def list(
        self,
        scope: ScopeName = "global",
        prefix: str = "",
        after: str = "",
        limit: Annotated[int, Meta(ge=1, le=1000)] = 100,
    ) -> Found:
        """List registers of a scope by name. Fewer than `limit`: that was the end.

        Bytes are left out: `get` them.

        after: only names beyond this one: the last of the page before.
        """
        self._memory.expire()
        home = self._memory.scopes.get(scope)
        names = sorted(name for name in (home.slots if home else ()) if name.startswith(prefix) and name > after)
        found = [self._memory.view(scope, name, home.slots[name]) for name in names[:limit] if home]
        return [msgspec.structs.replace(register, attachment=None) for register in found]

    @operation()
    async def increment(
        self,
        name: Name,
        by: Number = 1,
        scope: ScopeName = "global",
        initial: Number = 0,
        ttl_seconds: Seconds | None = None,
    ) -> Register:
        """Add to a register of kind integer or number; one that is not there starts at `initial`.

        Integers stay within 64 bits: beyond them, OUT_OF_RANGE. The expiry stays.

        ttl_seconds: how long a register made by this call lives.
        """
        slot = self._memory.find(scope, name)
        if slot is None:
            first = _sum(name, initial, by)
            return self._told(self._memory.put(scope, name, first, ttl_seconds=ttl_seconds))
        if slot.kind not in ("integer", "number") or (slot.kind == "integer" and isinstance(by, float)):
            raise FailedPrecondition(f"register {name!r} holds {slot.kind}; {by!r} can't be added to it")
        total = _sum(name, msgspec.json.decode(cast(bytes, slot.value)), by)
        return self._told(self._memory.replace(scope, name, make_slot(slot.kind, total, slot.expires_at)))

    @operation()
    async def append(
        self, name: Name, value: Json, scope: ScopeName = "global", keep: Annotated[int, Meta(ge=1)] | None = None
    ) -> int:
        """Append a value to a list, or text to a text; its length after that. One not there is an empty list.

        keep: only this many of the last elements or characters stay.
        """
        slot = self._memory.find(scope, name)
        if slot is None:
            longer = make_slot("list", [value], None)
        elif slot.kind == "list" or (slot.kind == "text" and isinstance(value, str)):
            longer = _longer(slot, value)
        else:
            raise FailedPrecondition(
                f"register {name!r} holds {slot.kind}; {type(value).__name__} can't be appended to it"
            )
        if keep is not None and longer.length > keep:
            kept = msgspec.json.decode(cast(bytes, longer.value))[-keep:]
            longer = make_slot(longer.kind, kept, longer.expires_at)
        self._memory.replace(scope, name, longer)
        self._tell()
        return longer.length

    @operation()
    async def swap(
        self, name: Name, value: Json = None, scope: ScopeName = "global", attachment: Attachment | None = None
    ) -> Register | None:
        """Set a register and answer what it was before; null when it was not there."""
        slot = self._memory.find(scope, name)
        before = None if slot is None else self._memory.view(scope, name, slot)
        self._memory.put(scope, name, _one(value, attachment))
        self._tell()
        return before

    @operation()
    async def compare_and_set(
        self,
        name: Name,
        expected_version: Version,
        value: Json = None,
        scope: ScopeName = "global",
        attachment: Attachment | None = None,
        ttl_seconds: Seconds | None = None,
    ) -> Register:
        """Set a register only if it is at a version; else ABORTED, and read it again.

        expected_version: 0 for a register that must not exist.
        """
        return self._told(
            self._memory.put(
                scope, name, _one(value, attachment), ttl_seconds=ttl_seconds, expected_version=expected_version
            )
        )

    @operation(read_only=True)
    async def watch(
        self, scope: ScopeName | None = None, prefix: str = "", since: Version | None = None
    ) -> AsyncIterator[Change]:
        """Follow changes, without end: each register that changed, in its newest state.

        A watcher that falls too far behind gets FAILED_PRECONDITION: list, then watch again.

        scope: of this scope; without it, of all.
        since: number of the last change known (a register's version); without it, from now on.
        """
        position = self._memory.sequence if since is None else since
        while True:
            self.expire()
            signal = self._changed
            upto = self._memory.sequence
            for change in self._memory.changes_since(position, scope, prefix):
                yield change
            position = upto
            self.expire()
            if position == self._memory.sequence:
                await signal.wait()

    @operation(read_only=True)
    async def scopes(self) -> Scopes:
        """List the scopes with what they hold and may hold."""
        self._memory.expire()
        return [_info(scope) for _, scope in sorted(self._memory.scopes.items())]

    @operation(idempotent=True)
    async def configure(
        self,
        scope: ScopeName,
        max_registers: Annotated[int, Meta(ge=1)] | None = None,
        max_bytes: Annotated[int, Meta(ge=1)] | None = None,
        evict: Literal["never", "lru"] = "never",
    ) -> ScopeInfo:
        """Set the limits of a scope; without them, the unit's own. Shrinks nothing that is there.

        evict: `lru` makes room by removing what was not used for longest; `never` refuses.
        """
        home = self._memory.scope(scope)
        limits = self._memory.limits
        home.max_registers = max_registers or limits.scope_max_registers
        home.max_bytes = max_bytes or limits.scope_max_bytes
        home.evict = evict
        home.configured = True
        self._memory.scopes[scope] = home
        return _info(home)

    @operation(idempotent=True, destructive=True)
    async def clear(self, scope: ScopeName) -> int:
        """Delete a scope with all its registers and limits; how many there were."""
        self._memory.expire()
        home = self._memory.scopes.get(scope)
        names = tuple(home.slots) if home else ()
        for name in names:
            self._memory.remove(scope, name, "deleted")
        self._memory.scopes.pop(scope, None)
        self._tell()
        return len(names)

    def _told(self, register: Register) -> Register:
        self._tell()
        return register

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _one(value: Json, attachment: Attachment | None) -> Json | Attachment:
    if attachment is not None and value is not None:
        raise InvalidArgument("give either a value or an attachment, not both")
    return value if attachment is None else attachment


def _longer(slot: Slot, value: Json) -> Slot:
    """A list with one more element, or a text with more characters: spliced, not decoded."""
    text, addition = cast(bytes, slot.value), encoded(value)
    if slot.kind == "text":
        joined, length = text[:-1] + addition[1:], slot.length + len(value)
    else:
        joined, length = text[:-1] + (b"," if slot.length else b"") + addition + b"]", slot.length + 1
    return Slot("text" if slot.kind == "text" else "list", checked_size(joined), length, 0, slot.expires_at)


def _sum(name: str, value: Number, by: Number) -> Number:
    try:
        total = value + by
    except OverflowError as error:
        raise OutOfRange(f"register {name!r} can't hold {value!r} + {by!r}: {error}") from None
    if isinstance(total, float) and not math.isfinite(total):
        raise OutOfRange(f"register {name!r} can't hold {value!r} + {by!r}: it is not finite")
    if isinstance(total, int) and not -(2**63) <= total < 2**63:
        raise OutOfRange(f"register {name!r} can't hold {value!r} + {by!r}: it leaves 64 bits")
    return total


def _info(scope: Scope) -> ScopeInfo:
    return ScopeInfo(
        scope=scope.name,
        registers=len(scope.slots),
        bytes=scope.size_bytes,
        max_registers=scope.max_registers,
        max_bytes=scope.max_bytes,
        evict=scope.evict,
    )
