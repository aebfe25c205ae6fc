"""What is kept in memory of the latest requests, and no longer than there are newer ones."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["MOST_KEPT", "Latest"]

MOST_KEPT = 256

Key = TypeVar("Key")
Value = TypeVar("Value")


class Latest(dict[Key, Value]):
    """The latest entries by their keys."""

    def keep(self, key: Key, value: Value) -> None:
        """Keep one, and let the oldest go."""
        self[key] = value
        while len(self) > MOST_KEPT:
            del self[next(iter(self))]
