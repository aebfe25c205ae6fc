"""What was learned of memory, kept from one host to the next: a small JSON file in the state directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from smol.policy.costs import Cost, CostKey

__all__ = ["read_costs", "write_costs"]

_FILE = "memory.json"


class _Row(msgspec.Struct, frozen=True):
    key: CostKey
    cost: Cost


def read_costs(directory: Path) -> list[tuple[CostKey, Cost]]:
    """What is there; nothing when there is none, or when it can't be read: it will be learned again."""
    try:
        rows = msgspec.json.decode((directory / _FILE).read_bytes(), type=list[_Row])
    except (OSError, msgspec.MsgspecError):
        return []
    return [(row.key, row.cost) for row in rows]


def write_costs(directory: Path, costs: Iterable[tuple[CostKey, Cost]]) -> None:
    """Replace the file in one step. Raises OSError."""
    rows = msgspec.json.encode([_Row(key, cost) for key, cost in costs])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = directory / f"{_FILE}.{os.getpid()}.tmp"
    fresh.write_bytes(rows)
    fresh.replace(directory / _FILE)
