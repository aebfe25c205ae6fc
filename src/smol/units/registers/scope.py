"""One scope: registers by name with a count and a byte limit. Knows neither time nor watchers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from smol.errors import ResourceExhausted
from smol.types import Attachment
from smol.units.registers.records import Kind

__all__ = ["Scope", "Slot"]


@dataclass(slots=True, eq=False)
class Slot:
    """What a scope holds under a name. Replaced as a whole, never changed in place.

    value: JSON text, so that its size is what it costs and nobody can share it; or bytes.
    length: elements of a list, characters of a text; else 0. expires_at: on the unit's clock.
    """

    kind: Kind
    value: bytes | Attachment
    length: int
    version: int = 0
    expires_at: float | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.value)


class Scope:
    """Registers in the order of their last use, oldest first, when it evicts; else of their making."""

    def __init__(self, name: str, max_registers: int, max_bytes: int) -> None:
        self.name = name
        self.max_registers = max_registers
        self.max_bytes = max_bytes
        self.configured = False
        self.evict: Literal["never", "lru"] = "never"
        self.size_bytes = 0
        self.slots: OrderedDict[str, Slot] = OrderedDict()

    def use(self, name: str) -> Slot | None:
        """The slot of a name, marked as used."""
        slot = self.slots.get(name)
        if slot is not None and self.evict == "lru":
            self.slots.move_to_end(name)
        return slot

    def make_room(self, name: str, size_bytes: int) -> list[str]:
        """The names to remove before `name` may hold `size_bytes`. Changes nothing.

        Raises ResourceExhausted when the scope does not evict, or could not hold it even when empty.
        """
        old = self.slots.get(name)
        count = len(self.slots) + (old is None)
        total = self.size_bytes - (old.size_bytes if old else 0) + size_bytes
        victims: list[str] = []
        if self.evict == "lru" and size_bytes <= self.max_bytes:
            for candidate, slot in self.slots.items():
                if count <= self.max_registers and total <= self.max_bytes:
                    break
                if candidate != name:
                    victims.append(candidate)
                    count -= 1
                    total -= slot.size_bytes
        if (old is None and count > self.max_registers) or (
            total > self.max_bytes and size_bytes > (old.size_bytes if old else 0)
        ):
            raise ResourceExhausted(
                f"scope {self.name!r} would hold {count} registers of {total} bytes; {self.max_registers} of "
                f"{self.max_bytes} bytes are allowed. Delete some, or configure the scope",
                max_registers=self.max_registers,
                max_bytes=self.max_bytes,
            )
        return victims

    def store(self, name: str, slot: Slot) -> None:
        old = self.slots.get(name)
        self.size_bytes += slot.size_bytes - (old.size_bytes if old else 0)
        self.slots[name] = slot
        if self.evict == "lru":
            self.slots.move_to_end(name)

    def remove(self, name: str) -> Slot | None:
        slot = self.slots.pop(name, None)
        if slot is not None:
            self.size_bytes -= slot.size_bytes
        return slot
