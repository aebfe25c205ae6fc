from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smol.errors import DataLoss, ResourceExhausted, Unavailable
from smol.store.writer import Writer


class Disk(sqlite3.Connection):
    """A connection whose commits wait for a gate and, beyond the healthy ones, fail as told."""

    gate: threading.Event
    failure: int = 0
    healthy_commits: int = 0
    commits: int = 0

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.gate.wait(5)
            self.commits += 1
            if self.failure and self.commits > self.healthy_commits:
                error = sqlite3.OperationalError("as told")
                error.sqlite_errorcode = self.failure
                raise error
        return super().execute(sql, *arguments)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False, factory=Disk)
    connection.gate = threading.Event()
    connection.execute("CREATE TABLE pairs(key TEXT PRIMARY KEY)")
    return connection


def insert(key: str) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute("INSERT INTO pairs VALUES (?)", (key,)).rowcount


def test_nothing_is_acknowledged_before_its_commit_returned(disk: Disk, tmp_path: Path) -> None:
    writer = Writer(disk, tmp_path / "a.db", 16, 16)

    async def scenario() -> None:
        jobs = [writer.submit(insert(key)).future for key in "abc"]
        done, _ = await asyncio.wait(jobs, timeout=0.05)
        assert not done
        disk.gate.set()
        assert await asyncio.gather(*jobs) == [1, 1, 1]

    asyncio.run(scenario())
    writer.close()


@pytest.mark.parametrize(
    ("failure", "kind", "commits"),
    [
        (sqlite3.SQLITE_IOERR, Unavailable, 1),
        (sqlite3.SQLITE_IOERR | 4 << 8, Unavailable, 1),  # SQLITE_IOERR_FSYNC
        (sqlite3.SQLITE_CORRUPT, DataLoss, 1),
        (sqlite3.SQLITE_FULL, ResourceExhausted, 4),  # the group, then each job by itself
    ],
)
def test_a_failed_commit_fails_all_it_held_and_leaves_no_trace(
    disk: Disk, tmp_path: Path, failure: int, kind: type[Exception], commits: int
) -> None:
    writer = Writer(disk, tmp_path / "a.db", 16, 16)
    running, proceed = threading.Event(), threading.Event()

    def block(_: sqlite3.Connection) -> None:
        running.set()
        proceed.wait(5)

    async def scenario() -> None:
        disk.gate.set()
        first = writer.submit(block).future
        await asyncio.to_thread(running.wait, 5)
        jobs = [writer.submit(insert(key)).future for key in "abc"]
        proceed.set()
        await first
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [kind] * 3
        assert disk.commits == 1 + commits
        disk.failure = 0
        count = writer.submit(lambda c: c.execute("SELECT count(*) FROM pairs").fetchone()[0])
        assert await count.future == 0
        assert await writer.submit(insert("a")).future == 1

    disk.failure, disk.healthy_commits = failure, 1
    asyncio.run(scenario())
    writer.close()
