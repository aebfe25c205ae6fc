"""A piece of database work on its way from an event loop to a thread and back.

Cancel-safe: a job cancelled before its thread took it is dropped; later, its outcome is discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any, TypeAlias

__all__ = ["Job", "Outcome", "deliver"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """work: what to do with a connection; its return value, or what it raises, is the outcome."""

    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    @classmethod
    def make(cls, work: Callable[[Connection], Any]) -> Job:
        loop = asyncio.get_running_loop()
        return cls(work, loop, loop.create_future())


Outcome: TypeAlias = tuple[Job, Any, BaseException | None]
"""A finished job, its value, its error."""


def deliver(outcomes: Iterable[Outcome]) -> None:
    """Hand outcomes to their event loops, waking each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, group in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, group)


def _settle(outcomes: list[Outcome]) -> None:
    for job, value, error in outcomes:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(value)
        else:
            job.future.set_exception(error)
