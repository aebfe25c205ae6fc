"""One host at one socket: a lock that is held while it lives, so that two that start at once can't both go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from smol.errors import AlreadyExists, FailedPrecondition

__all__ = ["Claim"]


class Claim:
    """The right to listen at a socket. The system takes it back when the process ends, however it ends.

    The lock file stays: who removed it could remove that of a host which has just begun.
    """

    def __init__(self, socket: Path) -> None:
        """Raises AlreadyExists when another host has it."""
        path = socket.with_name(f"{socket.name}.lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise FailedPrecondition(f"the lock file {path} can't be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise AlreadyExists(
                f"a host is already listening at {socket}, or about to: stop it, or set another socket"
            ) from None

    def release(self) -> None:
        """Let another host have it."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
