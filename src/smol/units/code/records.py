"""What the operations take and return."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from smol.sandbox.proxy import Contact
from smol.sandbox.records import Isolation, Verdict
from smol.sdk import Attachment
from smol.types import Json

__all__ = [
    "Artifact",
    "Check",
    "LanguageInfo",
    "LanguageName",
    "Piece",
    "Problem",
    "Run",
    "Session",
    "Source",
]

LanguageName: TypeAlias = Literal["python", "shell", "javascript", "node"]
Source: TypeAlias = Annotated[str, Meta(max_length=512 * 1024)]


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the code left in its directory. media_type: guessed from the name."""

    name: str
    bytes: int
    media_type: str
    attachment: Attachment


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run.

    value: of the last expression, when JSON can carry it; value_text: its repr, when not.
    stdout_bytes, stderr_bytes: all that was written; more than the text has when it was cut.
    exit_status, signal: of the program; None when there was none. left_out: files that are no artifacts, and why.
    contacts: connections that it asked the network for, the first hundred.
    cpu_ms and peak_memory_bytes are those of the sandbox; None where nobody measured.
    """

    verdict: Verdict
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    value: Json = None
    value_text: str | None = None
    exit_status: int | None = None
    signal: int | None = None
    artifacts: list[Artifact] = []
    left_out: list[str] = []
    contacts: list[Contact] = []
    wall_ms: float
    cpu_ms: float | None = None
    peak_memory_bytes: int | None = None
    isolation: Isolation


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Output as it comes, and at the end the result, whose own output is empty then."""

    kind: Literal["stdout", "stderr", "result"]
    text: str = ""
    result: Run | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A stateful interpreter. memory_bytes: what it holds reserved. environment: empty for the usual packages."""

    session: str
    memory_bytes: int
    environment: str
    network: bool
    runs: int
    idle_seconds: float


class Problem(msgspec.Struct, frozen=True):
    """line, column: from 1; 0 where the language's own checker does not tell them apart."""

    line: int
    column: int
    message: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """ok: there are no problems."""

    ok: bool
    problems: list[Problem]


class LanguageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """available: it can be run here; reason: why not."""

    name: str
    description: str
    available: bool
    reason: str = ""
