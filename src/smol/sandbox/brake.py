"""Stops the code of a session between its runs: their time limits hold for threads that it leaves behind too."""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["Brake"]


class Brake:
    """For the one process that runs code in a sandbox; it may start threads there, and no process.

    Without effect where the kernel lists no children of a process.
    """

    def __init__(self) -> None:
        self._descriptor = -1

    def hold(self, init: int) -> None:
        """Stop it. init: its parent, the first process of the sandbox."""
        if self._descriptor < 0:
            with contextlib.suppress(OSError, ValueError):
                child = _only_child(init)
                self._descriptor = os.pidfd_open(child)
                if _only_child(init) != child:  # It ended, and the number may be another's.
                    self.close()
        self._send(signal.SIGSTOP)

    def release(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _send(self, number: signal.Signals) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # It has ended.
                signal.pidfd_send_signal(self._descriptor, number)


def _only_child(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        (child,) = file.read().split()
    return int(child)
