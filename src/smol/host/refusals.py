"""What a caller is told when the governor refuses it memory."""

from __future__ import annotations

from typing import Any

import msgspec

from smol.errors import ResourceExhausted
from smol.policy.decisions import Refuse

__all__ = ["refused"]


def refused(decision: Refuse) -> ResourceExhausted:
    """The error that tells a caller so."""
    details: dict[str, Any] = {
        "needed_bytes": decision.needed_bytes,
        "free_bytes": decision.free_bytes,
        "holders": [msgspec.to_builtins(holder) for holder in decision.holders],
    }
    if decision.retry_after_ms is not None:
        details["retry_after_ms"] = decision.retry_after_ms
    if decision.repeat:
        details["repeat"] = decision.ticket
    return ResourceExhausted(decision.reason, **details)
