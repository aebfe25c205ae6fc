"""Processes that the host has adopted: descendants of workers whose own parents are gone.

Only where the kernel lists a process's children (Linux); elsewhere nothing is adopted either.
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["children", "end"]

_TASKS = "/proc/self/task"


def children() -> set[int]:
    """The processes whose parent is this one, those included that have ended and were not waited for."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in os.listdir(_TASKS):
            with contextlib.suppress(OSError), open(f"{_TASKS}/{task}/children") as file:
                found.update(map(int, file.read().split()))
    return found


def end(pid: int) -> bool:
    """Wait for a child if it has ended, else kill it. Returns whether it is gone now."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return True
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    return True
