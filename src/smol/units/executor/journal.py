"""What is remembered of runs: in memory for those that end with their call, in a store for durable ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

import msgspec

from smol.errors import CODES, Internal, NotFound, ResourceExhausted, SmolError, by_code
from smol.protocol import decode_payload, encode_payload
from smol.store import Migration, Store
from smol.types import Attachment, Json
from smol.units.executor.calls import UNCERTAIN, Outcome
from smol.units.executor.program import Step

__all__ = [
    "MIGRATIONS",
    "Memory",
    "Run",
    "RunJournal",
    "StepRecord",
    "end_run",
    "find_run",
    "history_of",
    "insert_run",
    "list_runs",
    "pack",
    "reopen_run",
    "result_of",
    "task_of",
    "unpack",
]

_SHOWN_CHARACTERS = 500

MIGRATIONS = (
    Migration(
        1,
        "runs and their steps",
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE, name TEXT NOT NULL, state TEXT NOT NULL,
            program TEXT NOT NULL, input BLOB NOT NULL, allowed TEXT NOT NULL, request_key TEXT UNIQUE,
            result BLOB, code TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
            created_ms INTEGER NOT NULL, ended_ms INTEGER, journal_bytes INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX runs_by_state ON runs(state, sequence);
        CREATE TABLE steps (
            run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, path TEXT NOT NULL, number INTEGER NOT NULL,
            label TEXT NOT NULL, operation TEXT NOT NULL, given TEXT NOT NULL, began_ms INTEGER NOT NULL,
            ended_ms INTEGER, attempts INTEGER NOT NULL DEFAULT 0, value BLOB, code TEXT NOT NULL DEFAULT '',
            message TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, path)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
    Migration(2, "memory of steps", "ALTER TABLE steps ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;"),
)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A durable run. state: running, done, failed or cancelled. journal_bytes: of its steps' results."""

    id: str
    name: str
    state: str
    code: str = ""
    message: str = ""
    created_ms: int
    ended_ms: int | None = None
    journal_bytes: int = 0


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step that ran. given, value: shortened. code: of the error it ended with.

    memory_bytes: what the worker that served it used when it ended; 0 if nobody knows.
    """

    number: int
    path: str
    id: str
    operation: str
    given: str
    began_ms: int
    ended_ms: int | None = None
    attempts: int = 0
    memory_bytes: int = 0
    value: str = ""
    code: str = ""
    message: str = ""


def pack(value: Json) -> bytes:
    """A value with its attachments as one row of bytes."""
    raw, headers, body = encode_payload(value)
    parts = [(header.media_type, header.name, bytes(data)) for header, data in zip(headers, body, strict=True)]
    return msgspec.msgpack.encode((bytes(raw), parts))


def unpack(data: bytes) -> Json:
    """What `pack` packed."""
    raw, parts = msgspec.msgpack.decode(data, type=tuple[bytes, list[tuple[str, str | None, bytes]]])
    attachments = [Attachment(content, media_type, name) for media_type, name, content in parts]
    return decode_payload(msgspec.Raw(raw), attachments)


class Memory:
    """The journal of a run that nobody resumes: it keeps nothing."""

    keeps = False

    def ended(self, path: str) -> Outcome | None:
        return None

    def begun_ms(self, path: str) -> int | None:
        return None

    async def begin(self, path: str, step: Step, given: Json, *, durable: bool) -> None:
        """Nobody will ask."""

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None:
        """Nobody will ask."""


class _Begun(msgspec.Struct):
    number: int
    label: str
    operation: str
    given: str
    began_ms: int


class RunJournal:
    """The journal of one durable run: `end` returns after the outcome is on the disk."""

    keeps = True

    def __init__(self, store: Store, run: str, limit_bytes: int) -> None:
        self._store = store
        self._run = run
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._number = 0
        self._begun: dict[str, _Begun] = {}
        self._known_ms: dict[str, int] = {}
        self._ended: dict[str, Outcome] = {}

    async def load(self) -> None:
        """Read what an earlier life of this run left."""

        def rows(connection: Connection) -> list[tuple[Any, ...]]:
            return connection.execute(
                "SELECT path, number, began_ms, ended_ms, value, code, message FROM steps WHERE run = ?",
                (self._run,),
            ).fetchall()

        for path, number, began_ms, ended_ms, value, code, message in await self._store.read(rows):
            self._number = max(self._number, number)
            if ended_ms is None:
                self._known_ms[path] = began_ms
                continue
            self._bytes += len(value or b"")
            self._ended[path] = Outcome(error=by_code(code, message)) if code else Outcome(unpack(value))

    def ended(self, path: str) -> Outcome | None:
        return self._ended.get(path)

    def begun_ms(self, path: str) -> int | None:
        return self._known_ms.get(path)

    async def begin(self, path: str, step: Step, given: Json, *, durable: bool) -> None:
        self._number += 1
        operation = step.call if isinstance(step.call, str) else step.actions[0]
        begun = _Begun(self._number, step.id or "", operation, _shown(given), _now_ms())
        self._begun[path] = begun
        if durable:
            await self._store.write(lambda connection: self._insert(connection, path, begun))

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None:
        value = None if outcome.error is not None else pack(outcome.value)
        size_bytes = len(value or b"")
        if self._bytes + size_bytes > self._limit_bytes:
            raise ResourceExhausted(f"{path}: the journal of this run would be beyond {self._limit_bytes} bytes")
        begun = self._begun.pop(path, None) or _Begun(self._number, "", "", "", _now_ms())
        code = "" if outcome.error is None else outcome.error.code
        message = "" if outcome.error is None else outcome.error.message

        def work(connection: Connection) -> None:
            self._insert(connection, path, begun)
            connection.execute(
                "UPDATE steps SET ended_ms = ?, attempts = ?, memory_bytes = ?, value = ?, code = ?, message = ?"
                " WHERE run = ? AND path = ?",
                (_now_ms(), attempts, outcome.memory_bytes, value, code, message, self._run, path),
            )
            connection.execute(
                "UPDATE runs SET journal_bytes = journal_bytes + ? WHERE id = ?", (size_bytes, self._run)
            )

        await self._store.write(work)
        self._bytes += size_bytes
        self._ended[path] = outcome

    def _insert(self, connection: Connection, path: str, begun: _Begun) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO steps(run, path, number, label, operation, given, began_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._run, path, begun.number, begun.label, begun.operation, begun.given, begun.began_ms),
        )


_RUN = "id, name, state, code, message, created_ms, ended_ms, journal_bytes"


def insert_run(
    connection: Connection, run: Run, program: str, given: bytes, allowed: Sequence[str], key: str, keep: int
) -> Run:
    """Store a new run, or find the one that was submitted under the same key. Forgets the oldest that ended."""
    if key:
        row = connection.execute(f"SELECT {_RUN} FROM runs WHERE request_key = ?", (key,)).fetchone()  # noqa: S608
        if row is not None:
            return _run(row)
    connection.execute(
        "INSERT INTO runs(id, sequence, name, state, program, input, allowed, request_key, created_ms) VALUES"
        " (?, (SELECT coalesce(max(sequence), 0) + 1 FROM runs), ?, ?, ?, ?, ?, ?, ?)",
        (run.id, run.name, run.state, program, given, "\n".join(allowed), key or None, run.created_ms),
    )
    old = connection.execute(
        "SELECT id FROM runs WHERE state <> 'running' ORDER BY sequence DESC LIMIT -1 OFFSET ?", (keep,)
    ).fetchall()
    connection.executemany("DELETE FROM steps WHERE run = ?", old)
    connection.executemany("DELETE FROM runs WHERE id = ?", old)
    return run


def find_run(connection: Connection, run: str) -> Run:
    """Raises NotFound."""
    row = connection.execute(f"SELECT {_RUN} FROM runs WHERE id = ?", (run,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound(f"no run {run!r}; executor.list shows those there are")
    return _run(row)


def list_runs(connection: Connection, state: str, limit: int) -> list[Run]:
    """The newest first; an empty state stands for all."""
    rows = connection.execute(
        f"SELECT {_RUN} FROM runs WHERE ? IN ('', state) ORDER BY sequence DESC LIMIT ?",  # noqa: S608
        (state, limit),
    )
    return [_run(row) for row in rows]


def task_of(connection: Connection, run: str) -> tuple[str, Json, list[str], int]:
    """Program, input, allowed patterns and time of submission of a run."""
    find_run(connection, run)
    program, given, allowed, created_ms = connection.execute(
        "SELECT program, input, allowed, created_ms FROM runs WHERE id = ?", (run,)
    ).fetchone()
    return program, unpack(given), allowed.split("\n"), created_ms


def end_run(connection: Connection, run: str, state: str, outcome: Outcome) -> None:
    """Say how a run ended, unless it has ended already."""
    error = outcome.error
    connection.execute(
        "UPDATE runs SET state = ?, result = ?, code = ?, message = ?, ended_ms = ?"
        " WHERE id = ? AND state = 'running'",
        (
            state,
            None if error is not None else pack(outcome.value),
            error.code if error is not None else "",
            error.message if error is not None else "",
            _now_ms(),
            run,
        ),
    )


def result_of(connection: Connection, run: str) -> Outcome | None:
    """How a run ended; None while it runs."""
    found = find_run(connection, run)
    if found.state == "running":
        return None
    if found.code:
        kind = CODES.get(found.code, Internal)
        error: SmolError = kind(found.message)
        return Outcome(error=error)
    return Outcome(unpack(connection.execute("SELECT result FROM runs WHERE id = ?", (run,)).fetchone()[0]))


def history_of(connection: Connection, run: str) -> list[StepRecord]:
    """The steps of a run in the order they began."""
    find_run(connection, run)
    rows = connection.execute(
        "SELECT number, path, label, operation, given, began_ms, ended_ms, attempts, value, code, message,"
        " memory_bytes FROM steps WHERE run = ? ORDER BY number, path",
        (run,),
    )
    return [
        StepRecord(number=row[0], path=row[1], id=row[2], operation=row[3], given=row[4], began_ms=row[5],
                   ended_ms=row[6], attempts=row[7], value=_shown(unpack(row[8])) if row[8] is not None else "",
                   code=row[9], message=row[10], memory_bytes=row[11])
        for row in rows
    ]  # fmt: skip


def reopen_run(connection: Connection, run: str) -> Run:
    """Let a run that failed or was cancelled go on: its failures are forgotten, its effects are not."""
    found = find_run(connection, run)
    if found.state not in ("running", "done"):
        marks = ", ".join("?" * len(UNCERTAIN))
        connection.execute(
            f"UPDATE steps SET ended_ms = NULL, code = '', message = '' WHERE run = ? AND code IN ({marks})",  # noqa: S608
            (run, *UNCERTAIN),
        )
        connection.execute("DELETE FROM steps WHERE run = ? AND code <> ''", (run,))
        connection.execute(
            "UPDATE runs SET state = 'running', code = '', message = '', ended_ms = NULL WHERE id = ?", (run,)
        )
    return find_run(connection, run)


def _run(row: tuple[Any, ...]) -> Run:
    return Run(id=row[0], name=row[1], state=row[2], code=row[3], message=row[4], created_ms=row[5],
               ended_ms=row[6], journal_bytes=row[7])  # fmt: skip


def _shown(value: Json) -> str:
    text = msgspec.json.encode(value, enc_hook=repr).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _now_ms() -> int:
    return int(time.time() * 1000)
