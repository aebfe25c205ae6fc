"""When a provider is not asked: while it is down, and when its tokens of today are used."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from smol.errors import ResourceExhausted, Unavailable

__all__ = ["Breaker", "Spending"]


class Breaker:
    """Lets nothing through for a while once a provider has failed several times in a row."""

    def __init__(self, failures: int = 5, open_seconds: float = 30.0) -> None:
        self._most = failures
        self._open_seconds = open_seconds
        self._failed = 0
        self._until = 0.0

    def check(self, now: float) -> None:
        """Raises Unavailable while it is open; then one request may try."""
        if now < self._until:
            raise Unavailable(
                "the provider has failed several times in a row and is left alone for a while",
                retry_after_ms=int((self._until - now) * 1000) + 1,
            )

    def failed(self, now: float) -> None:
        """A request failed for want of the provider."""
        self._failed += 1
        if self._failed >= self._most:
            self._until = now + self._open_seconds

    def succeeded(self) -> None:
        """The provider answered."""
        self._failed = 0
        self._until = 0.0


class Spending:
    """Tokens of today, kept in a file."""

    def __init__(self, file: Path, most: int) -> None:
        self._file = file
        self._most = most

    def check(self) -> None:
        """Raises ResourceExhausted when today's are used up."""
        if self._most and self._today() >= self._most:
            left = 86_400 - time.time() % 86_400
            raise ResourceExhausted(
                f"the provider's {self._most} tokens of today are used (tokens_per_day); days end at midnight UTC",
                retry_after_ms=int(left * 1000),
            )

    def add(self, tokens: int) -> None:
        """So many were used."""
        if not self._most or not tokens:
            return
        total = self._today() + tokens
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".tmp")
        fresh.write_bytes(msgspec.json.encode({"day": _day(), "tokens": total}))
        fresh.replace(self._file)

    def _today(self) -> int:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return 0
        return kept.get("tokens", 0) if kept.get("day") == _day() else 0


def _day() -> int:
    return int(time.time() // 86_400)
