from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smol.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from smol.store import Migration, Options, Store
from smol.store.files import check

FIRST = Migration(1, "pairs", "CREATE TABLE pairs(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
SECOND = Migration(2, "notes", "CREATE TABLE notes(text TEXT); INSERT INTO notes VALUES ('made')")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store.open(path, [FIRST])
    yield opened
    opened.close()


def put(store: Store, key: str, value: object) -> Coroutine[Any, Any, int]:
    return store.write(lambda c: c.execute("INSERT INTO pairs VALUES (?, ?)", (key, value)).rowcount)


async def values(store: Store) -> dict[str, object]:
    return await store.read(lambda c: dict(c.execute("SELECT key, value FROM pairs")))


def test_what_was_written_is_read_back_and_survives_reopening(store: Store, path: Path) -> None:
    async def scenario() -> dict[str, object]:
        assert await put(store, "a", 1) == 1
        return await values(store)

    assert asyncio.run(scenario()) == {"a": 1}
    store.close()
    again = Store.open(path, [FIRST])
    assert asyncio.run(values(again)) == {"a": 1}
    again.close()


def test_waiting_writes_share_transactions(store: Store) -> None:
    async def scenario() -> None:
        await asyncio.gather(*(put(store, str(n), n) for n in range(200)))

    asyncio.run(scenario())
    statistics = store.statistics()
    assert statistics.jobs == 200
    assert statistics.commits < 50


def test_a_failed_job_undoes_itself_and_spares_its_neighbours(store: Store) -> None:
    gate = threading.Event()

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO pairs VALUES ('half', 1)")
        raise InvalidArgument("no")

    async def scenario() -> list[object]:
        jobs: list[Coroutine[Any, Any, object]] = [
            store.write(lambda _: gate.wait(5)),
            put(store, "a", 1),
            store.write(half),
            put(store, "b", 2),
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert isinstance(outcomes[2], InvalidArgument)
    assert outcomes[1] == outcomes[3] == 1
    assert asyncio.run(values(store)) == {"a": 1, "b": 2}
    assert store.statistics().commits <= 2


def test_a_write_that_does_not_fit_the_disk_spares_those_that_do(store: Store) -> None:
    gate = threading.Event()

    def shrink(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 20")
        gate.wait(5)

    async def scenario() -> list[object]:
        jobs: list[Coroutine[Any, Any, object]] = [
            store.write(shrink),
            put(store, "a", 1),
            put(store, "big", b"x" * 10**6),
            put(store, "b", 2),
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert isinstance(outcomes[2], ResourceExhausted)
    assert outcomes[2].details["resource"] == "disk"
    assert asyncio.run(values(store)) == {"a": 1, "b": 2}


def test_an_error_of_sqlite_becomes_one_of_ours(store: Store) -> None:
    with pytest.raises(Internal, match="no such table"):
        asyncio.run(store.write(lambda c: c.execute("INSERT INTO nowhere VALUES (1)")))
    with pytest.raises(Internal, match="no such table"):
        asyncio.run(store.read(lambda c: c.execute("SELECT * FROM nowhere")))


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match="readonly"):
        asyncio.run(store.read(lambda c: c.execute("INSERT INTO pairs VALUES ('a', 1)")))


def test_a_cancelled_write_that_still_waits_is_dropped(store: Store) -> None:
    gate, running = threading.Event(), threading.Event()

    def block(_: sqlite3.Connection) -> None:
        running.set()
        gate.wait(5)

    async def scenario() -> None:
        first = asyncio.ensure_future(store.write(block))
        await asyncio.to_thread(running.wait, 5)
        second = asyncio.ensure_future(put(store, "dropped", 1))
        await asyncio.sleep(0)
        second.cancel()
        gate.set()
        await asyncio.gather(first, second, return_exceptions=True)
        await put(store, "kept", 1)

    asyncio.run(scenario())
    assert asyncio.run(values(store)) == {"kept": 1}


def test_a_loop_that_is_gone_does_not_stop_the_writer(store: Store) -> None:
    gate = threading.Event()

    async def leave() -> None:
        task = asyncio.ensure_future(store.write(lambda _: gate.wait(5)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    asyncio.run(put(store, "a", 1))
    assert asyncio.run(values(store)) == {"a": 1}


def test_too_many_waiting_writes_are_refused(path: Path) -> None:
    store = Store.open(path, [FIRST], Options(waiting_jobs=3))
    gate = threading.Event()

    async def scenario() -> list[object]:
        tasks = [asyncio.ensure_future(store.write(lambda _: gate.wait(5))) for _ in range(20)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    refused = [outcome for outcome in asyncio.run(scenario()) if isinstance(outcome, ResourceExhausted)]
    store.close()
    assert len(refused) >= 10
    assert refused[0].details["retry_after_ms"] > 0


def test_a_closed_store_refuses_and_closes_twice(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        asyncio.run(put(store, "a", 1))
    with pytest.raises(Unavailable, match="closed"):
        asyncio.run(values(store))


def test_a_second_owner_is_refused(store: Store, path: Path) -> None:
    with pytest.raises(Unavailable, match="another process"):
        Store.open(path, [FIRST], Options(lock_wait_seconds=0))


def test_migrations_run_once_and_in_order(store: Store, path: Path) -> None:
    store.close()
    for _ in range(2):
        newer = Store.open(path, [FIRST, SECOND])
        assert asyncio.run(newer.read(lambda c: c.execute("SELECT count(*) FROM notes").fetchone())) == (1,)
        newer.close()
    with pytest.raises(FailedPrecondition, match="version 2"):
        Store.open(path, [FIRST])


def test_a_failed_migration_leaves_the_file_at_the_one_before(store: Store, path: Path) -> None:
    store.close()
    broken = Migration(2, "broken", "CREATE TABLE half(x); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(Internal, match="nowhere"):
        Store.open(path, [FIRST, broken])
    mended = Store.open(path, [FIRST, Migration(2, "mended", "CREATE TABLE half(x)")])
    mended.close()


def test_migrations_with_a_gap_are_refused(path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="without gaps"):
        Store.open(path, [Migration(2, "late", "SELECT 1")])


def damage(path: Path) -> bytes:
    """Overwrite the file's pages but the first."""
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    return bytes(data)


def test_a_damaged_file_is_set_aside_whole_and_named(store: Store, path: Path) -> None:
    asyncio.run(put(store, "a", b"x" * 20_000))
    store.close()
    damaged = damage(path)
    fresh = Store.open(path, [FIRST])
    statistics = fresh.statistics()
    fresh.close()
    assert len(statistics.set_aside) == 1
    assert statistics.set_aside[0].read_bytes() == damaged
    assert statistics.set_aside[0].name in statistics.check
    assert asyncio.run(_reopened_values(path)) == {}


async def _reopened_values(path: Path) -> dict[str, object]:
    store = Store.open(path, [FIRST])
    try:
        return await values(store)
    finally:
        store.close()


@pytest.mark.parametrize("content", [b"this is no database, whatever its name says" * 200, b"\0" * 8192])
def test_a_file_that_is_no_database_is_set_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = Store.open(path, [FIRST])
    assert [file.read_bytes() for file in store.statistics().set_aside] == [content]
    store.close()


def test_a_damaged_file_is_refused_where_that_was_asked(store: Store, path: Path) -> None:
    asyncio.run(put(store, "a", b"x" * 20_000))
    store.close()
    damaged = damage(path)
    with pytest.raises(DataLoss, match="damaged"):
        Store.open(path, [FIRST], Options(when_corrupt="refuse"))
    assert path.read_bytes() == damaged


class Slow(sqlite3.Connection):
    """A connection whose check never ends by itself."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if "quick_check" in sql:
            sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        return super().execute(sql, *arguments)


def test_a_check_that_takes_too_long_is_called_unfinished() -> None:
    with closing(Slow(":memory:")) as connection:
        assert check(connection, 0.05) == "unfinished"
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_backup_made_under_load_is_a_whole_state(store: Store, path: Path) -> None:
    def pair(n: int) -> Coroutine[Any, Any, None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO pairs VALUES (?, 0)", (f"a{n}",))
            connection.execute("INSERT INTO pairs VALUES (?, 0)", (f"b{n}",))

        return store.write(work)

    async def scenario() -> int:
        writes = asyncio.gather(*(pair(n) for n in range(1000)))
        await asyncio.sleep(0)
        size = await asyncio.to_thread(store.back_up, path.with_name("copy"))
        await writes
        return size

    assert asyncio.run(scenario()) == path.with_name("copy").stat().st_size
    copy = Store.open(path.with_name("copy"), [FIRST])
    keys = asyncio.run(values(copy))
    copy.close()
    assert {key[1:] for key in keys if key[0] == "a"} == {key[1:] for key in keys if key[0] == "b"}
    with pytest.raises(AlreadyExists):
        store.back_up(path.with_name("copy"))


def test_restoring_brings_the_backup_back_and_keeps_the_former_file(store: Store, path: Path) -> None:
    asyncio.run(put(store, "old", 1))
    store.back_up(path.with_name("copy"))
    asyncio.run(put(store, "new", 2))
    former = store.restore(path.with_name("copy"))
    assert asyncio.run(values(store)) == {"old": 1}
    asyncio.run(put(store, "newer", 3))
    before = Store.open(former, [FIRST])
    assert asyncio.run(values(before)) == {"old": 1, "new": 2}
    before.close()


def test_a_damaged_backup_is_not_restored(store: Store, path: Path) -> None:
    asyncio.run(put(store, "a", b"x" * 20_000))
    store.back_up(path.with_name("copy"))
    damage(path.with_name("copy"))
    with pytest.raises(DataLoss, match="damaged"):
        store.restore(path.with_name("copy"))
    with pytest.raises(NotFound):
        store.restore(path.with_name("nothing"))
    assert list(asyncio.run(values(store))) == ["a"]
