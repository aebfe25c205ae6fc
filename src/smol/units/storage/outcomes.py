"""Idempotency keys: the same request under the same key is answered once and then from memory.

The outcome is written in the transaction of the effect, so there is never one without the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, TypeVar

import msgspec

from smol.errors import InvalidArgument
from smol.types import Attachment

__all__ = ["fingerprint", "once"]

T = TypeVar("T")


def fingerprint(*request: Any) -> bytes:
    """SHA-256 of a request, attachments included."""
    digest = hashlib.sha256()

    def take(value: Any) -> str:
        if not isinstance(value, Attachment):
            raise InvalidArgument(
                f"a value of type {type(value).__name__} can't be stored: use JSON or Attachment"
            )
        return f"{hashlib.sha256(value.data).hexdigest()} {value.media_type} {value.name}"

    digest.update(msgspec.json.encode(request, enc_hook=take))
    return digest.digest()


def once(
    connection: Connection,
    key: str,
    request: bytes,
    effect: Callable[[], T],
    kind: type[T],
    now_ms: int,
    expires_ms: int,
) -> T:
    """The outcome of `effect`, run unless `key` has one already; without a key it is just run.

    Raises InvalidArgument when the key was used for another request. A failed effect leaves no outcome.
    """
    if not key:
        return effect()
    row = connection.execute(
        "SELECT request, outcome FROM outcomes WHERE key = ? AND expires_ms > ?", (key, now_ms)
    ).fetchone()
    if row is not None:
        if row[0] != request:
            raise InvalidArgument(f"the idempotency key {key!r} was used for another request; use a new one")
        return msgspec.json.decode(row[1], type=kind)
    outcome = effect()
    connection.execute(
        "INSERT OR REPLACE INTO outcomes(key, request, outcome, expires_ms) VALUES (?, ?, ?, ?)",
        (key, request, msgspec.json.encode(outcome), expires_ms),
    )
    return outcome
