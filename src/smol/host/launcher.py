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
from collections.abc import Sequence

import msgspec

from smol.errors import Unavailable
from smol.host.zygote import REQUEST_BYTES, LaunchRequest, Zygote
from smol.sdk.worker import WorkerSpec

__all__ = ["Launcher", "Process"]

_log = logging.getLogger("smol.host")
_PID = struct.Struct("=i")
_LAUNCH_TIMEOUT_SECONDS = 10.0


class Process:
    """A running worker process, which leads a process group of its own.

    Where the kernel has no process descriptors, its end is learned from its connection (`assume_ended`).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
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
            self._ended.set_result(None)

    def _reap(self) -> None:
        assert self._descriptor is not None
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        status: int | None = None
        with contextlib.suppress(ChildProcessError):
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        # What it left behind in its group goes with it; the host has adopted it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.set_result(status)
        self._loop.call_later(0.1, self._reap_group)

    def _reap_group(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG) != (0, 0):
                pass


class Launcher:
    """Owns the zygote, and replaces it when it dies; workers it had forked live on."""

    def __init__(self, zygote: Zygote | None = None) -> None:
        self._zygote: Zygote | None = None
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._loop = asyncio.get_running_loop()
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
        return zygote

    async def launch(
        self, spec: WorkerSpec, argv: Sequence[str] = (), directory: str = ""
    ) -> tuple[Process, socket.socket]:
        """Start a worker; returns it with the host's end of its connection. Raises Unavailable."""
        request = LaunchRequest(spec=spec, host=os.getpid(), argv=tuple(argv), directory=directory)
        data = msgspec.json.encode(request)
        if len(data) > REQUEST_BYTES:
            raise Unavailable(f"worker {spec.name!r} has settings of {len(data)} bytes, at most {REQUEST_BYTES}")
        zygote = self._zygote or self._take(Zygote.execute())
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                answer: asyncio.Future[int] = self._loop.create_future()
                socket.send_fds(zygote.control, [data], [theirs.fileno()])
                self._waiting.append(answer)
            async with asyncio.timeout(_LAUNCH_TIMEOUT_SECONDS):
                pid = await answer
            if pid <= 0:
                raise Unavailable(f"worker {spec.name!r} could not be forked")
            return Process(pid), ours
        except (TimeoutError, OSError) as error:
            ours.close()
            self._lose_zygote()
            raise Unavailable(
                f"worker {spec.name!r} could not be started: {error or 'the zygote is stuck'}"
            ) from None
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """End the zygote."""
        self._lose_zygote()

    def _receive(self) -> None:
        assert self._zygote is not None
        try:
            data = self._zygote.control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) != _PID.size:
            _log.warning("the zygote ended; a new one starts with the next worker")
            self._lose_zygote()
            return
        pid = int(_PID.unpack(data)[0])
        answer = self._waiting.popleft()
        if answer.done():
            # Nobody waits for this worker any more.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            Process(pid)
        else:
            answer.set_result(pid)

    def _lose_zygote(self) -> None:
        if self._zygote is not None:
            self._loop.remove_reader(self._zygote.control.fileno())
            self._zygote.end()
            self._zygote = None
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(Unavailable("the zygote ended before it had started the worker"))
