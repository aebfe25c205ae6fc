"""The memory of a run, reserved with the host's governor for as long as the run lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smol.errors import NotFound, Unimplemented
from smol.sdk import Context

__all__ = ["lease"]

_OPERATION = "memory.lease"
_LONGEST_SECONDS = 86_400.0


@asynccontextmanager
async def lease(context: Context, size_bytes: int, what: str) -> AsyncIterator[bool]:
    """Hold `size_bytes`. Raises ResourceExhausted when the governor refuses.

    False: this host has no governor to ask, so the sandbox's own limits are all there is.
    """
    try:
        items = context.stream(_OPERATION, within_seconds=_LONGEST_SECONDS, bytes=size_bytes, what=what)
    except NotImplementedError:  # no host at all: a test
        yield False
        return
    try:
        granted = await anext(items, None) is not None
    except (NotFound, Unimplemented, NotImplementedError):
        granted = False
    try:
        yield granted
    finally:
        await items.aclose()
