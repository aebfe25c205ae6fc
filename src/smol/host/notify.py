"""Telling systemd how the host is (sd_notify(3)), where it is asked to."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["notify", "watchdog_seconds"]


def notify(state: str) -> bool:
    """Send `READY=1` and the like. False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)  # Whoever does not read it must not stop the host.
        channel.sendto(state.encode(), target)
        return True
    return False


def watchdog_seconds() -> float | None:
    """How often to send `WATCHDOG=1`: half of what systemd waits. None when it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (owner and owner != str(os.getpid())):
        return None
    return int(microseconds) / 2e6
