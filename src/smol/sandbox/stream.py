"""One of the two streams that code writes to, read as it comes and kept up to a limit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["Output", "Stream"]

Output = Callable[[str, bytes], None]
"""Told of output as it comes: `stdout` or `stderr`, and bytes."""

_OVERFLOW = 40


class Stream:
    """What came over a pipe, up to a limit. tell: given what is kept. overflowed: called when far more came."""

    def __init__(self, descriptor: int, name: str, tell: Output, overflowed: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.name = name
        self.kept = bytearray()
        self.count = 0
        self.limit = 0
        self.open = True
        self._tell = tell
        self._overflowed = overflowed

    @property
    def overflows(self) -> bool:
        """Whether far more came than is kept."""
        return self.count > self.limit * _OVERFLOW

    def read(self) -> None:
        """All that is there now, within reason: a loop that writes must not keep the event loop from its work."""
        for _ in range(8):
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.count += len(data)
            room = max(0, self.limit - len(self.kept))
            self.kept += data[:room]
            if room:
                self._tell(self.name, data[:room])
            if self.overflows:
                self._overflowed()
                return

    def begin(self, limit: int) -> None:
        """Forget what came, and keep up to `limit` bytes from now on."""
        self.kept, self.count, self.limit = bytearray(), 0, limit

    def close(self) -> None:
        """Read no more."""
        if self.open:
            self.open = False
            asyncio.get_running_loop().remove_reader(self.descriptor)
            os.close(self.descriptor)
