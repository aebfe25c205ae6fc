"""Errors at the edge of the command line: what is printed, and the exit status."""

from __future__ import annotations

from collections.abc import Mapping

from smol.errors import SmolError
from smol.plain import plain

__all__ = ["EXIT_STATUS", "explain"]

EXIT_STATUS: Mapping[str, int] = {
    "UNKNOWN": 1,
    "INTERNAL": 1,
    "INVALID_ARGUMENT": 2,
    "OUT_OF_RANGE": 2,
    "NOT_FOUND": 3,
    "ALREADY_EXISTS": 4,
    "FAILED_PRECONDITION": 5,
    "ABORTED": 6,
    "PERMISSION_DENIED": 7,
    "UNAUTHENTICATED": 8,
    "RESOURCE_EXHAUSTED": 9,
    "UNIMPLEMENTED": 10,
    "UNAVAILABLE": 11,
    "DATA_LOSS": 12,
    "DEADLINE_EXCEEDED": 13,
    "CANCELLED": 14,
}
"""Exit status by status code; 2 is also what a wrong command line gives."""


def explain(error: SmolError) -> str:
    """One or two lines for a person."""
    wait = error.details.get("retry_after_ms")
    hint = f"\n  try again in {wait / 1000:.1f} s" if isinstance(wait, int | float) else ""
    return f"{error.code}: {plain(error.message)}{hint}"
