"""Units that take no calls because a person said so: disabled for good, or drained until started.

What is disabled is kept on disk and holds for the next host too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from smol.errors import FailedPrecondition, Internal, SmolError, Unavailable

__all__ = ["Switches"]


class Switches:
    """Which units are off. path: a file, made with the first unit that is disabled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._drained: set[str] = set()
        self.problem = ""
        self.disabled: set[str] = set(self._read())

    def refusal(self, unit: str) -> SmolError | None:
        """Why a unit takes no calls; None when it does."""
        if unit in self.disabled:
            return FailedPrecondition(f"unit {unit!r} is disabled: run 'smol enable {unit}'")
        if unit in self._drained:
            return Unavailable(f"unit {unit!r} was drained: run 'smol start {unit}'")
        return None

    def disable(self, unit: str) -> None:
        """Raises Internal when that can't be kept, and then nothing has changed."""
        self._write(self.disabled | {unit})

    def enable(self, unit: str) -> None:
        """As `disable`."""
        self._write(self.disabled - {unit})

    def drain(self, units: Iterable[str]) -> None:
        """They take no calls until `resume`, or the next host."""
        self._drained.update(units)

    def resume(self, units: Iterable[str]) -> None:
        """Take back a `drain`."""
        self._drained.difference_update(units)

    def _read(self) -> list[str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[str])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            self.problem = f"{self._path} can't be read, so no unit is disabled: {error}"
            return []

    def _write(self, disabled: set[str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path.with_suffix(".tmp")
            fresh.write_bytes(msgspec.json.encode(sorted(disabled)))
            fresh.replace(self._path)
        except OSError as error:
            raise Internal(f"{self._path} can't be written: {error.strerror}; nothing has changed") from None
        self.disabled = disabled
