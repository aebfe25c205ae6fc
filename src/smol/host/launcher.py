"""Starts worker processes through the zygote, and knows when they end.

Covers processes only; what a worker is for is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from smol.errors import Unavailable
from smol.host import installer, orphans
from smol.host.cages import Cage
from smol.host.zygote import REQUEST_BYTES, LaunchRequest, Zygote
from smol.sdk.worker import WorkerSpec

__all__ = ["Launcher", "Process"]

_log = logging.getLogger("smol.host")
_PID = struct.Struct("=i")
_LAUNCH_TIMEOUT_SECONDS = 10.0
_LAUNCHES_AT_ONCE = 2
"""The zygote forks one after the other; more would only fill its socket."""
_DEATH_SECONDS = 5.0
"""How long the kernel may take to end a process that was killed."""
_PROVEN_SECONDS = 2.0
"""A zygote that lived so long is replaced at once; another one not before it is needed."""
_SWEEP_SECONDS = 0.25
_IDLE_SWEEP_SECONDS = 10.0


class Process:
    """A running worker process, which leads a process group of its own.

    Where the kernel has no process descriptors, its end is learned from its connection (`assume_ended`).
    on_end: told when it has ended.
    """

    def __init__(self, pid: int, on_end: Callable[[Process], None]) -> None:
        self.pid = pid
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int | None] = self._loop.create_future()
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            self._ended.set_result(None)
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._reap)

    async def wait(self) -> int | None:
        """Wait for its end. Returns the exit status, negative for a signal, None when it can't be known."""
        return await asyncio.shield(self._ended)

    async def end(self, patience_seconds: float) -> int | None:
        """Wait for its end for a while, then kill it. Returns as `wait` does."""
        await asyncio.wait([self._ended], timeout=patience_seconds)
        self.kill()
        await asyncio.wait([self._ended], timeout=_DEATH_SECONDS)
        return self._ended.result() if self._ended.done() else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the whole group."""
        if not self._ended.done():
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # Just forked: not yet the leader of its group.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def assume_ended(self) -> None:
        """Its connection closed: where nothing else tells, that is its end."""
        if self._descriptor is None and not self._ended.done():
            self.kill()
            self._finish(None)

    def _reap(self) -> None:
        assert self._descriptor is not None
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        # What it left behind in its group goes with it, while it is still there itself to keep the number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status: int | None = None
        with contextlib.suppress(ChildProcessError):
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._finish(status)

    def _finish(self, status: int | None) -> None:
        self._ended.set_result(status)
        self._on_end(self)


class Launcher:
    """Owns the zygote, and replaces it when it dies; workers it had forked live on.

    adopts: this process adopts what workers leave behind, and has no other children of its own.
    """

    def __init__(self, zygote: Zygote | None = None) -> None:
        self.adopts = False
        self._zygote: Zygote | None = None
        self._zygote_since = 0.0
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._turns = asyncio.Semaphore(_LAUNCHES_AT_ONCE)
        self._processes: set[Process] = set()
        self._strangers: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeping = self._loop.call_later(_IDLE_SWEEP_SECONDS, self._sweep)
        if zygote is not None:
            self._take(zygote)

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    def _take(self, zygote: Zygote) -> Zygote:
        """Use a zygote; it takes requests at once and answers when it is warm."""
        zygote.control.setblocking(False)
        zygote.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * REQUEST_BYTES)
        self._loop.add_reader(zygote.control.fileno(), self._receive)
        self._zygote = zygote
        self._zygote_since = self._loop.time()
        return zygote

    async def launch(
        self, spec: WorkerSpec, cage: Cage, argv: Sequence[str] = (), directory: str = ""
    ) -> tuple[Process, socket.socket]:
        """Start a worker; returns it with the host's end of its connection. Raises Unavailable."""
        request = LaunchRequest(spec=spec, host=os.getpid(), cage=cage, argv=tuple(argv), directory=directory)
        data = msgspec.json.encode(request)
        if len(data) > REQUEST_BYTES:
            raise Unavailable(f"worker {spec.name!r} has settings of {len(data)} bytes, at most {REQUEST_BYTES}")
        async with self._turns:
            try:
                return await self._launch(spec.name, data)
            except _ZygoteLostError:
                _log.info("worker %s is started once more, by another zygote", spec.name)
                return await self._launch(spec.name, data)

    async def _launch(self, name: str, data: bytes) -> tuple[Process, socket.socket]:
        try:
            zygote = self._zygote or self._take(Zygote.execute())
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise Unavailable(f"worker {name!r} could not be started: {error.strerror}") from None
        try:
            with theirs:
                socket.send_fds(zygote.control, [data], [theirs.fileno()])
            answer: asyncio.Future[int] = self._loop.create_future()
            self._waiting.append(answer)
            async with asyncio.timeout(_LAUNCH_TIMEOUT_SECONDS):
                pid = await answer
            if pid <= 0:
                raise Unavailable(f"worker {name!r} could not be forked: the system has no room for a process")
            return self._own(pid), ours
        except (TimeoutError, OSError) as error:
            ours.close()
            self._lose_zygote()
            reason = str(error) or "the zygote is stuck"
            raise _ZygoteLostError(f"worker {name!r} could not be started: {reason}") from None
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """End the zygote."""
        self._sweeping.cancel()
        self._lose_zygote()

    def _own(self, pid: int) -> Process:
        process = Process(pid, self._disown)
        self._processes.add(process)
        return process

    def _disown(self, process: Process) -> None:
        self._processes.discard(process)
        self._sweep_soon()

    def _receive(self) -> None:
        assert self._zygote is not None
        try:
            data = self._zygote.control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) != _PID.size or not self._waiting:
            _log.warning("the zygote ended; another one takes its place")
            proven = self._loop.time() - self._zygote_since > _PROVEN_SECONDS
            self._lose_zygote()
            if proven:
                with contextlib.suppress(OSError):  # Then the next launch says so.
                    self._take(Zygote.execute())
            return
        pid = int(_PID.unpack(data)[0])
        answer = self._waiting.popleft()
        if not answer.done():
            answer.set_result(pid)
        elif pid > 0:
            self._own(pid).kill()  # Nobody waits for this worker any more.

    def _lose_zygote(self) -> None:
        if self._zygote is not None:
            self._loop.remove_reader(self._zygote.control.fileno())
            self._zygote.end()
            self._zygote = None
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(_ZygoteLostError("the zygote ended before it had started the worker"))
        self._sweep_soon()

    # Orphans ------------------------------------------------------------------------------------

    def _sweep_soon(self) -> None:
        self._sweeping.cancel()
        self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """End what workers left behind outside their groups, and the host has adopted.

        A process counts as left behind that was nobody's at the sweep before, too: one that has just been
        forked is nobody's for a moment.
        """
        if self._waiting or not self.adopts:
            self._strangers = set()
        else:
            ours = {process.pid for process in self._processes} | installer.running
            strangers = orphans.children() - ours - {self.zygote_pid}
            self._strangers = {pid for pid in strangers if pid not in self._strangers or not orphans.end(pid)}
        delay = _SWEEP_SECONDS if self._strangers or self._waiting else _IDLE_SWEEP_SECONDS
        self._sweeping = self._loop.call_later(delay, self._sweep)


class _ZygoteLostError(Unavailable):
    """The zygote ended, or was ended, before it answered."""
