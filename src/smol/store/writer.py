"""The one writer: a thread that commits all waiting jobs in one transaction (group commit).

While one transaction is being synced to the disk, new jobs wait; the next transaction takes them all,
so that many writers share one sync and a lone writer never waits for company. Each job runs in a
savepoint: what one raises undoes that job alone. A job is acknowledged after the commit, never before.

A failed sync: SQLite undoes the transaction, and the next one overwrites its frames in the log, so that
going on is safe (acknowledged frames were synced by their own commit). Until then a crash may bring the
failed transaction back, whole; hence `outcome="unknown"` in the error. A job may run a second time
when its group failed, so it must have no effect beyond its connection.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from smol.errors import ResourceExhausted, Unavailable
from smol.store.faults import ends_transaction, is_full, translate
from smol.store.jobs import Job, Outcome, deliver

__all__ = ["Writer"]


class _GroupFailed(Exception):
    """Raised through a group when one job's error ended the transaction of all."""


class Writer:
    """Runs jobs on `connection`, which it owns and closes."""

    def __init__(self, connection: sqlite3.Connection, path: Path, group_jobs: int, waiting_jobs: int) -> None:
        self._connection = connection
        self._path = path
        self._group_jobs = group_jobs
        self._waiting_jobs = waiting_jobs
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = False
        self.jobs = 0
        self.commits = 0
        self.failures = 0
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], Any]) -> Job:
        """Queue `work`. Raises `Unavailable` after `close`, `ResourceExhausted` when too many wait."""
        if self._closing:
            raise Unavailable(f"{self._path} is closed")
        if self._queue.qsize() >= self._waiting_jobs:
            raise ResourceExhausted(
                f"{self._waiting_jobs} writes already wait for {self._path}; try again shortly", retry_after_ms=50
            )
        job = Job.make(work)
        self._queue.put(job)
        return job

    def close(self) -> None:
        """Finish what waits, then end the thread and close the connection. Blocks."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        try:
            while True:
                group, last = self._next_group()
                if group:
                    deliver(self._commit(group))
                if last:
                    return
        finally:
            self._connection.close()

    def _next_group(self) -> tuple[list[Job], bool]:
        """Wait for one job and take what else waits; the flag says that no more will come."""
        group: list[Job] = []
        job = self._queue.get()
        while job is not None:
            if not job.future.cancelled():
                group.append(job)
            if len(group) >= self._group_jobs:
                return group, False
            try:
                job = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _commit(self, group: list[Job]) -> list[Outcome]:
        try:
            outcomes = self._run(group)
            self._connection.execute("COMMIT")
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, _GroupFailed) and error.__cause__ else error
            self.failures += 1
            self._undo()
            # One job too large, or one that broke the transaction, must not take the others with it.
            if len(group) > 1 and (isinstance(error, _GroupFailed) or is_full(cause)):
                return [outcome for job in group for outcome in self._commit([job])]
            return [(job, None, translate(cause, self._path)) for job in group]
        self.jobs += len(group)
        self.commits += 1
        return outcomes

    def _run(self, group: list[Job]) -> list[Outcome]:
        execute = self._connection.execute
        outcomes: list[Outcome] = []
        execute("BEGIN IMMEDIATE")
        for job in group:
            execute("SAVEPOINT job")
            try:
                outcomes.append((job, job.work(self._connection), None))
            except BaseException as error:
                if ends_transaction(error) or not self._connection.in_transaction:
                    raise _GroupFailed from error
                execute("ROLLBACK TO job")
                outcomes.append((job, None, translate(error, self._path)))
            execute("RELEASE job")
        return outcomes

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # SQLite rolled back by itself; if it did not, the next BEGIN fails and says so.
            self.failures += 1
