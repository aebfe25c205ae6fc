"""Waiting for what other processes do."""

from __future__ import annotations

import re
import time
from typing import Any

__all__ = ["port_of", "wait_for"]


def wait_for(condition: Any, seconds: float = 20.0) -> Any:
    """What a condition gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


def port_of(host: Any) -> int:
    """The port of the gateway of a host that was started with a log."""
    found = wait_for(lambda: re.findall(r"open http://127\.0\.0\.1:(\d+)", host.log))
    return int(found[-1])
