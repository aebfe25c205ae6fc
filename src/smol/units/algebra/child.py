"""Work that can't be interrupted, done in a forked process: it ends by its deadline, in bounded memory.

The process inherits what the worker has loaded, so it starts in milliseconds. What it answers crosses a
pipe as JSON. It is in the worker's process group, so it ends with the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import msgspec

from smol.errors import DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, SmolError, by_code
from smol.sizes import MIB, format_bytes

__all__ = ["CHILD_BYTES", "LARGEST_ANSWER_BYTES", "MAX_SECONDS", "compute"]

CHILD_BYTES = 64 * MIB
"""Memory a computation may take beyond what the worker has."""
MAX_SECONDS = 30.0
"""Time a computation may take, whatever the deadline of its call."""
LARGEST_ANSWER_BYTES = 512 * 1024
"""Of JSON; the wire takes twice as much."""
_RECURSION_LIMIT = 5000

T = TypeVar("T")


class _Failure(msgspec.Struct, tag=True):
    code: str
    message: str


class _Success(msgspec.Struct, tag=True):
    value: msgspec.Raw


_decode = msgspec.json.Decoder(_Failure | _Success).decode


async def compute(work: Callable[[], Any], kind: type[T], seconds: float | None) -> T:
    """What `work` returns, as a `kind`. Raises the SmolError it raises, or one that says which limit it met.

    work: called in the new process; what it changes is lost.
    seconds: until it is ended; at most MAX_SECONDS.
    """
    allowed = MAX_SECONDS if seconds is None else min(seconds, MAX_SECONDS)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be(work, writer, allowed)
    os.close(writer)
    try:
        async with asyncio.timeout(allowed):
            data = await _read(reader)
    except TimeoutError:
        raise _late(allowed) from None
    finally:
        os.close(reader)
        status = _end(pid)
    if not data:
        raise _ended(status, allowed)
    answer = _decode(data)
    if isinstance(answer, _Failure):
        raise by_code(answer.code, answer.message)
    return msgspec.json.decode(answer.value, type=kind)


def _end(pid: int) -> int:
    """Its exit status, negative for a signal. It may have ended; until waited for, its number stays its own."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def _read(reader: int) -> bytes:
    """Everything up to the end of the pipe."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    data = bytearray()

    def take() -> None:
        part = os.read(reader, 65_536)
        data.extend(part)
        if (not part or len(data) > 2 * LARGEST_ANSWER_BYTES) and not ended.done():
            ended.set_result(None)

    loop.add_reader(reader, take)
    try:
        await ended
    finally:
        loop.remove_reader(reader)
    return bytes(data)


def _be(work: Callable[[], Any], writer: int, seconds: float) -> NoReturn:
    """Be the process that computes: answer, and run nothing of the stack that was copied."""
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        # Other descriptors are the worker's connections, which must not stay open here.
        os.closerange(3, writer)
        os.closerange(writer + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        _limit(seconds)
        sys.setrecursionlimit(_RECURSION_LIMIT)
        sys.set_int_max_str_digits(0)  # Our own limits are of time and memory.
        data = _answer(work)
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _limit(seconds: float) -> None:
    with open("/proc/self/statm") as file:
        mapped_bytes = int(file.read().split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, mapped_bytes + CHILD_BYTES)
    _lower(resource.RLIMIT_CPU, int(seconds) + 1)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(which, (value, hard))


def _answer(work: Callable[[], Any]) -> bytes:
    error: SmolError
    try:
        data = msgspec.json.encode(_Success(msgspec.Raw(msgspec.json.encode(work()))))
        if len(data) <= LARGEST_ANSWER_BYTES:
            return data
        error = ResourceExhausted(f"the result is longer than {format_bytes(LARGEST_ANSWER_BYTES)}, the limit")
    except SmolError as refusal:
        error = refusal
    except MemoryError:
        error = _too_large()
    except RecursionError:
        error = InvalidArgument("the expression is nested too deeply for this computation")
    except Exception as unforeseen:
        with contextlib.suppress(Exception):
            print(f"algebra: {type(unforeseen).__name__}: {unforeseen}"[:500], file=sys.stderr, flush=True)
        error = Internal(f"the computation failed: {type(unforeseen).__name__}: {unforeseen}"[:500])
    return msgspec.json.encode(_Failure(error.code, error.message))


def _ended(status: int, seconds: float) -> SmolError:
    if status == -signal.SIGXCPU:
        return _late(seconds)
    return _too_large()


def _late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"no result within the {seconds:.3g} s the computation had; try a simpler expression")


def _too_large() -> ResourceExhausted:
    return ResourceExhausted(
        f"the computation needs more than the {format_bytes(CHILD_BYTES)} of memory it may take; "
        "try a simpler expression"
    )
