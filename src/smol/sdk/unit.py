"""The base class of units and the decorator that makes a method an operation.

Covers declaration only. Schemas are derived in `schema`, calls are served in `serve`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from smol.sdk.context import Context

__all__ = ["OPERATION_ATTRIBUTE", "Flags", "Unit", "operation"]

OPERATION_ATTRIBUTE = "__smol_operation__"

F = TypeVar("F", bound=Callable[..., Any])


class Flags:
    """What a method cannot say by its types: see `operation`."""

    __slots__ = ("destructive", "idempotent", "read_only")

    def __init__(self, *, idempotent: bool, read_only: bool, destructive: bool) -> None:
        self.idempotent = idempotent
        self.read_only = read_only
        self.destructive = destructive


def operation(*, idempotent: bool = False, read_only: bool = False, destructive: bool = False) -> Callable[[F], F]:
    """Make a method of a `Unit` an operation.

    An `async def` runs on the worker's event loop and must not block it; a plain `def` runs in a
    thread; an async generator is a streaming operation. A parameter annotated `Context` is
    given the call's context and is not part of the schema.

    idempotent: running it twice is as good as once, so that the host may retry it on another worker.
    read_only: it changes nothing (implies idempotent).
    destructive: it may delete or overwrite what cannot be brought back.
    """
    flags = Flags(idempotent=idempotent or read_only, read_only=read_only, destructive=destructive)

    def mark(function: F) -> F:
        setattr(function, OPERATION_ATTRIBUTE, flags)
        return function

    return mark


class Unit:
    """A module with a name and operations.

    Life: `provision` (get ready, may fail), `validate` (check, no side effects), then `serve` beside
    the calls, and `close` at the end, which must survive a failed `provision`.
    """

    async def provision(self, context: Context) -> None:
        """Get ready: open files, load small things. Raise `SmolError` to refuse to start."""

    async def validate(self) -> None:
        """Check what `provision` made, without side effects."""

    async def close(self) -> None:
        """Release what `provision` took."""

    async def serve(self, context: Context) -> None:
        """Run beside the calls, for as long as the worker lives; a service unit listens here."""
