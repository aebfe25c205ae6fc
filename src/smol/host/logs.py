"""What workers and the host write: a file each, bounded, and lines for whoever follows.

A worker's standard output and error are a pipe that the host empties, so that a worker never waits for a disk
and never fills one: beyond `_BURST_BYTES` at once and `_BYTES_A_SECOND` after that, lines are dropped, counted and
the count is told. A file that is full becomes `NAME.log.1`, in place of the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import select
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from smol.plain import plain

__all__ = ["LogBook", "LogHandler", "LogLine", "Logs"]

_LINE_BYTES = 8192
"""A longer line is cut in pieces."""
_READ_BYTES = 65536
_BURST_BYTES = 1 << 20
_BYTES_A_SECOND = 1 << 18
_FOLLOWED_LINES = 1000
"""Lines that wait for one follower; beyond them the oldest are dropped."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


class LogLine(msgspec.Struct, frozen=True):
    """A line that was written. time: in UTC, as 2026-01-31T12:00:00.000Z."""

    time: str
    text: str


class LogBook:
    """The lines of one writer. limit_bytes: of both its files together. clock: seconds since the epoch."""

    def __init__(self, path: Path, limit_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.dropped = 0
        self._older = path.with_name(f"{path.name}.1")
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._allowance = float(_BURST_BYTES)
        self._counted_at = clock()
        self._untold = 0
        self._followers: set[_Follower] = set()

    def write(self, lines: list[str]) -> None:
        """Keep lines, as far as they are not too many and the disk takes them."""
        now = self._clock()
        earned = max(0.0, now - self._counted_at) * _BYTES_A_SECOND
        self._allowance = min(_BURST_BYTES, self._allowance + earned)
        self._counted_at = now
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        kept: list[LogLine] = []
        for text in lines:
            if self._allowance < len(text):
                self._drop(1)
                continue
            self._allowance -= len(text) + len(stamp) + 2
            if self._untold:
                kept.append(LogLine(stamp, f"… {self._untold} lines were dropped: they came too fast"))
                self._untold = 0
            kept.append(LogLine(stamp, text))
        if kept:
            self._append(kept)

    def _append(self, lines: list[LogLine]) -> None:
        data = "".join(f"{line.time} {line.text}\n" for line in lines).encode(errors="replace")
        try:
            # Opened for each batch: whoever removes or replaces the file finds it made anew.
            with self.path.open("ab", buffering=0) as file:
                if file.tell() and file.tell() + len(data) > self._limit_bytes // 2:
                    self.path.replace(self._older)
                    with self.path.open("ab", buffering=0) as fresh:
                        fresh.write(data)
                else:
                    file.write(data)
        except OSError:  # A full disk must not stop a worker, and there is nowhere to say it.
            self._drop(len(lines))
        for follower in self._followers:
            follower.put(lines)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def tail(self, count: int) -> list[LogLine]:
        """The last lines, the oldest first."""
        lines: deque[LogLine] = deque(maxlen=count)
        for path in (self._older, self.path):
            try:
                text = path.read_text(errors="replace")
            except OSError:
                continue
            for line in text.split("\n"):
                if _TIME.match(line):
                    stamp, _, rest = line.partition(" ")
                    lines.append(LogLine(stamp, rest))
        return list(lines)

    async def follow(self, count: int) -> AsyncIterator[LogLine]:
        """The last lines, then each that comes."""
        follower = _Follower()
        self._followers.add(follower)
        try:
            for line in self.tail(count):
                yield line
            while True:
                yield await follower.take()
        finally:
            self._followers.discard(follower)


class _Follower:
    """Lines on their way to one reader, who may be slow."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=_FOLLOWED_LINES)
        self._arrived = asyncio.Event()

    def put(self, lines: list[LogLine]) -> None:
        self._lines.extend(lines)
        self._arrived.set()

    async def take(self) -> LogLine:
        while not self._lines:
            self._arrived.clear()
            await self._arrived.wait()
        return self._lines.popleft()


class Logs:
    """The books of all writers, by the name of their worker; `host` is the host's own.

    show: also given what workers write, as it comes.
    """

    def __init__(self, directory: Path, limit_bytes: int, show: Callable[[bytes], None] | None = None) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._show = show or _to_standard_error
        self._books: dict[str, LogBook] = {}
        self._pipes: dict[int, _Pipe] = {}
        self._loop = asyncio.get_running_loop()

    def book(self, name: str) -> LogBook:
        """The book of a writer; its file is made with its first line."""
        if name not in self._books:
            with contextlib.suppress(OSError):  # Then its lines are dropped, and counted.
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._books[name] = LogBook(self._directory / f"{name}.log", self._limit_bytes)
        return self._books[name]

    def pipe(self, name: str) -> int:
        """A descriptor for a worker to write to; closing it is the caller's business. Raises OSError."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._pipes[reader] = _Pipe(self.book(name), self._show)
        self._loop.add_reader(reader, self._read, reader)
        return writer

    def close(self) -> None:
        """Take what has been written until now, and no more."""
        for reader in list(self._pipes):
            while reader in self._pipes and self._read(reader):
                pass
            self._forget(reader)

    def _read(self, reader: int) -> bool:
        """Take what there is. Returns whether there was anything."""
        try:
            data = os.read(reader, _READ_BYTES)
        except BlockingIOError:
            return False
        self._pipes[reader].feed(data)
        if not data:
            self._forget(reader)
        return bool(data)

    def _forget(self, reader: int) -> None:
        if self._pipes.pop(reader, None) is not None:
            self._loop.remove_reader(reader)
            os.close(reader)


class _Pipe:
    """Makes lines of what comes out of one pipe."""

    def __init__(self, book: LogBook, show: Callable[[bytes], None]) -> None:
        self._book = book
        self._show = show
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Bytes came; none: the pipe ended."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            whole, self._rest = [self._rest], b""
        while len(self._rest) >= _LINE_BYTES:
            whole.append(self._rest[:_LINE_BYTES])
            self._rest = self._rest[_LINE_BYTES:]
        lines = [
            line[start : start + _LINE_BYTES].decode(errors="replace")
            for line in whole
            for start in range(0, len(line) or 1, _LINE_BYTES)
        ]
        before = self._book.dropped
        self._book.write(lines)
        if lines and self._book.dropped == before:
            self._show(plain("\n".join(lines)).encode() + b"\n")


class LogHandler(logging.Handler):
    """Keeps the host's own records in its book, from any thread."""

    def __init__(self, book: LogBook, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._book = book
        self._loop = loop
        self.setFormatter(logging.Formatter("%(levelname)-7s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = self.format(record).split("\n")
            self._loop.call_soon_threadsafe(self._book.write, lines)
        except RuntimeError:
            self.handleError(record)


def _to_standard_error(data: bytes) -> None:
    """Show what is in the log anyway, as far as whoever looks can take it: the host does not wait for them."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    with contextlib.suppress(OSError):  # Nobody listens there any more.
        for start in range(0, len(data), select.PIPE_BUF):
            if not poll.poll(0):
                return
            os.write(2, data[start : start + select.PIPE_BUF])
