"""Running an installer: its lines passed on as they come, its whole process group killed at the end.

Covers one command. Which commands make an environment is `environments`.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from smol.errors import FailedPrecondition, SmolError, Unavailable

__all__ = ["Progress", "run"]

Progress: TypeAlias = Callable[[str], None]

LAST_LINES = 12
LONGEST_LINE = 500
DRAIN_SECONDS = 5.0

# What pip and uv print when they could not reach an index, as opposed to when it had no such package.
UNREACHABLE = re.compile(
    r"failed to establish a new connection|name resolution|network is unreachable|connection (refused|reset)"
    r"|connection broken|timed out|dns error|failed to fetch|error sending request|max retries exceeded",
    re.IGNORECASE,
)

running: set[int] = set()
"""Process ids of the installers that run now."""


async def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    timeout_seconds: float,
    progress: Progress,
    held: Sequence[int] = (),
) -> list[str]:
    """Run to the end and return the last lines of its output, stdout and stderr together.

    held: descriptors that the process inherits. A lock among them stays locked while it lives, even if
        this process is killed, so that nobody else builds where it still writes.

    Raises `FailedPrecondition` if it fails, `Unavailable` if it could not reach the network or took too
    long; both with its last lines. However this ends, no process of the group is left.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=dict(environ), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
            start_new_session=True, pass_fds=tuple(held),
        )  # fmt: skip
    except OSError as error:
        raise FailedPrecondition(f"{command[0]} cannot be run: {error.strerror}") from None
    tail: deque[str] = deque(maxlen=LAST_LINES)
    running.add(process.pid)
    try:
        async with asyncio.timeout(timeout_seconds):
            async for line in _lines(process):
                tail.append(line)
                progress(line)
            status = await process.wait()
    except TimeoutError:
        raise _failure(Unavailable, command, f"did not finish within {timeout_seconds:.0f} s", tail) from None
    finally:
        await _end(process)
        running.discard(process.pid)
    if status != 0:
        unreachable = any(UNREACHABLE.search(line) for line in tail)
        kind = Unavailable if unreachable else FailedPrecondition
        raise _failure(kind, command, f"failed with status {status}", tail)
    return list(tail)


def _failure(kind: type[SmolError], command: Sequence[str], what: str, tail: Sequence[str]) -> SmolError:
    name = Path(command[0]).name
    output = "\n".join(tail) or "(no output)"
    return kind(f"the installer {name} {what}:\n{output}", command=list(command), output=list(tail))


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: only zombies are left
        os.killpg(process.pid, signal.SIGKILL)
    # Reading to the end lets the transport close its pipe.
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while process.stdout is not None and await process.stdout.read(65_536):
                pass
    except TimeoutError:
        pass
    await process.wait()


async def _lines(process: Process) -> AsyncIterator[str]:
    """Lines ended by newline or, as progress bars do, carriage return; blank ones left out, long ones cut."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while process.stdout is not None and (data := await process.stdout.read(8192)):
        *complete, rest = re.split(r"[\r\n]+", rest + decoder.decode(data))
        rest = rest[:LONGEST_LINE]
        for line in complete:
            if line.strip():
                yield line.rstrip()[:LONGEST_LINE]
    if rest.strip():
        yield rest.rstrip()
