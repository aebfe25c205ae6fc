from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from smol.host.logs import LogBook, LogHandler, LogLine, Logs


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def book(tmp_path: Path, limit_bytes: int = 1 << 20) -> tuple[LogBook, Clock]:
    clock = Clock()
    return LogBook(tmp_path / "unit.log", limit_bytes, clock), clock


def test_the_last_lines_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    written, _ = book(tmp_path)
    written.write(["one", "two with  spaces "])
    written.write(["three"])
    assert written.tail(2) == [
        LogLine("2023-11-14T22:13:20.000Z", "two with  spaces "),
        LogLine("2023-11-14T22:13:20.000Z", "three"),
    ]
    assert written.tail(0) == []


def test_a_log_never_takes_more_disk_than_it_may_and_loses_the_oldest(tmp_path: Path) -> None:
    written, clock = book(tmp_path, limit_bytes=20_000)
    for number in range(2000):
        written.write([f"line {number} {'x' * 80}"])
        clock.now += 1
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    assert written.dropped == 0
    kept = [int(line.text.split()[1]) for line in written.tail(10_000)]
    assert kept == list(range(kept[0], 2000))
    assert len(kept) >= 80


def test_lines_that_come_too_fast_are_dropped_counted_and_told(tmp_path: Path) -> None:
    written, clock = book(tmp_path, limit_bytes=8 << 20)
    written.write(["x" * 1000] * 3000)
    lost = written.dropped
    assert 1900 < lost < 2100
    clock.now += 10
    written.write(["calm"])
    assert [line.text for line in written.tail(2)] == [f"… {lost} lines were dropped: they came too fast", "calm"]


def test_a_log_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    written = LogBook(tmp_path / "missing" / "unit.log", 1 << 20)
    written.write(["lost"])
    assert written.dropped == 1
    assert written.tail(10) == []


def test_a_removed_log_is_made_anew(tmp_path: Path) -> None:
    written, _ = book(tmp_path)
    written.write(["before"])
    written.path.unlink()
    written.write(["after"])
    assert [line.text for line in written.tail(10)] == ["after"]


async def test_who_follows_gets_the_last_lines_and_then_each_that_comes(tmp_path: Path) -> None:
    written, _ = book(tmp_path)
    written.write(["old", "last"])
    following = written.follow(1)
    assert (await anext(following)).text == "last"
    coming = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    written.write(["new"])
    assert (await coming).text == "new"
    written.write([f"burst {number}" for number in range(5000)])  # More than waits for a slow reader.
    assert (await anext(following)).text == "burst 4000"


async def test_what_comes_through_a_pipe_becomes_lines_long_ones_in_pieces(tmp_path: Path) -> None:
    shown: list[bytes] = []
    logs = Logs(tmp_path / "logs", 1 << 20, shown.append)
    writer = logs.pipe("unit")
    os.write(writer, b"first\nsec")
    os.write(writer, b"ond\n\xff\n" + b"z" * 20_000 + b"\nunfinished")
    os.close(writer)
    logs.close()
    texts = [line.text for line in logs.book("unit").tail(100)]
    assert texts[:3] == ["first", "second", "\ufffd"]
    assert [len(text) for text in texts[3:-1]] == [8192, 8192, 20_000 - 2 * 8192]
    assert texts[-1] == "unfinished"
    assert b"".join(shown).startswith(b"first\nsecond\n")


async def test_what_a_worker_writes_does_not_steer_the_hosts_terminal(tmp_path: Path) -> None:
    shown: list[bytes] = []
    logs = Logs(tmp_path / "logs", 1 << 20, shown.append)
    writer = logs.pipe("unit")
    os.write(writer, b"\x1b[2Jgone\n\xff\n")
    os.close(writer)
    logs.close()
    assert b"".join(shown) == b"\\x1b[2Jgone\n\xef\xbf\xbd\n"
    assert logs.book("unit").tail(2)[0].text == "\x1b[2Jgone", "kept as it was written"


async def test_a_pipe_is_emptied_while_the_host_does_other_things(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20, lambda data: None)
    writer = logs.pipe("unit")
    os.set_blocking(writer, False)
    sent = 0
    while sent < 8 << 20:
        try:
            sent += os.write(writer, b"chatter\n" * 4096)
        except BlockingIOError:
            await asyncio.sleep(0)
    os.close(writer)
    logs.close()
    assert logs.book("unit").dropped > 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


async def test_the_hosts_own_records_are_kept(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20)
    handler = LogHandler(logs.book("host"), asyncio.get_running_loop())
    handler.handle(logging.LogRecord("smol.host", logging.WARNING, "", 0, "worker %s\nended", ("math",), None))
    await asyncio.sleep(0)
    assert [line.text for line in logs.book("host").tail(10)] == ["WARNING worker math", "ended"]
