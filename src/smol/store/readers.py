"""The read pool: a few threads, each with a connection that cannot write.

Readers see the last commit and neither wait for the writer nor hold it up. A job runs inside one read
transaction, so all its statements see the same state.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from smol.errors import ResourceExhausted, Unavailable
from smol.store.faults import translate
from smol.store.jobs import Job, deliver

__all__ = ["Readers"]


class Readers:
    """Threads are started when there is work for them, `threads` at most."""

    def __init__(
        self, open_connection: Callable[[], sqlite3.Connection], path: Path, threads: int, waiting_jobs: int
    ) -> None:
        self._open = open_connection
        self._path = path
        self._limit = threads
        self._waiting_jobs = waiting_jobs
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._closing = False

    def submit(self, work: Callable[[sqlite3.Connection], Any]) -> Job:
        """Queue `work`. Raises `Unavailable` after `close`, `ResourceExhausted` when too many wait."""
        if self._closing:
            raise Unavailable(f"{self._path} is closed")
        if self._queue.qsize() >= self._waiting_jobs:
            raise ResourceExhausted(
                f"{self._waiting_jobs} reads already wait for {self._path}; try again shortly", retry_after_ms=50
            )
        job = Job.make(work)
        self._queue.put(job)
        with self._lock:
            if self._queue.qsize() > self._idle and len(self._threads) < self._limit:
                name = f"store-reader-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
                self._threads[-1].start()
        return job

    def close(self) -> None:
        """Finish what waits, then end the threads and close their connections. Blocks."""
        self._closing = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (job := self._take()) is not None:
                if job.future.cancelled():
                    continue
                try:
                    connection = connection or self._open()
                    value = _read(connection, job)
                except BaseException as error:
                    deliver([(job, None, translate(error, self._path))])
                else:
                    deliver([(job, value, None)])
        finally:
            if connection is not None:
                connection.close()

    def _take(self) -> Job | None:
        with self._lock:
            self._idle += 1
        try:
            return self._queue.get()
        finally:
            with self._lock:
                self._idle -= 1


def _read(connection: sqlite3.Connection, job: Job) -> Any:
    connection.execute("BEGIN")
    try:
        return job.work(connection)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
