"""One sandbox from the outside: made, given a job, watched, ended, its remains collected.

Verdicts come from exit statuses, the counters of its cgroup and the clock, never from what the code says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import os
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from smol.errors import FailedPrecondition, Unavailable
from smol.sandbox import agent, seal
from smol.sandbox.brake import Brake
from smol.sandbox.cgroup import Cell, Parent
from smol.sandbox.claims import ClaimReader
from smol.sandbox.folders import count, remove_tree
from smol.sandbox.keeper import Keeper
from smol.sandbox.nursery import STATUS
from smol.sandbox.products import collect, holds_any
from smol.sandbox.records import Job, Kind, Limits, Outcome, Product, Verdict
from smol.sandbox.stream import Output, Stream
from smol.sizes import MIB

__all__ = ["Box"]

_READY_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_LOOKS = 2
"""That find a run without memory for its own code, one after the other, end it."""
_REMOVE_SECONDS = 20.0
_VERDICTS: dict[int, Verdict] = {
    agent.MEMORY: "memory",
    agent.PROCESSES: "processes",
    agent.FORBIDDEN: "forbidden",
    agent.DISK: "disk",
}
_LIBRARY_BYTES = 192 * MIB
"""Address space, beyond the memory of a run, for libraries that are mapped and little of them touched (numpy)."""


class Box:
    """A sandbox. `made` makes it; `run` runs a job; `close` leaves nothing of it."""

    def __init__(self, keeper: Keeper, kind: Kind, layers: Sequence[str], cell: Cell | None, folder: str) -> None:
        self.kind = kind
        self.layers = tuple(layers)
        self.tell: Output | None = None
        self.cell = cell
        self._keeper = keeper
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._id = self.pid = 0
        self._gone = asyncio.Event()
        self._done = asyncio.Event()
        self._stopped: Verdict | None = None
        self._claims = ClaimReader()
        self._report = b""
        self._work = -1
        self._gate = -1
        self._channel: socket.socket | None = None
        self._given: dict[str, bytes] = {}
        self._brake = Brake()

    @classmethod
    async def made(
        cls, keeper: Keeper, kind: Kind, layers: Sequence[str], limits: Limits, parent: Parent | None
    ) -> Box:
        """Make one and wait until all its seals are on. Raises SmolError; nothing is left then."""
        cell, folder = None, ""
        try:
            if parent is not None and "cgroup" in layers:
                cell = parent.make()
                cell.limit(limits.memory_bytes, limits.processes + 2)
            if "namespaces" not in layers:
                folder = tempfile.mkdtemp(prefix="smol-box-")
                os.mkdir(f"{folder}/.tmp", 0o700)
            box = cls(keeper, kind, layers, cell, folder)
        except OSError as error:
            if cell is not None:
                cell.remove()
            raise FailedPrecondition(f"no sandbox could be made: {error}") from error
        try:
            await box._spawn(limits)
        except BaseException:
            await asyncio.shield(box.close())
            raise
        return box

    async def _spawn(self, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        self._channel = ours
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        self._status, status_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stdout = Stream(out, "stdout", self._told, self._overflowed)
        self.stderr = Stream(err, "stderr", self._told, self._overflowed)
        try:
            self._id, self.pid, self._gone = await self._keeper.spawn(
                self._plan(limits), [theirs.fileno(), out_end, err_end, status_end]
            )
        finally:
            theirs.close()
            for descriptor in (out_end, err_end, status_end):
                os.close(descriptor)
        ours.setblocking(False)
        try:
            await asyncio.wait_for(self._greet(), _READY_SECONDS)
        except TimeoutError:
            raise Unavailable("a sandbox was not sealed within 10 seconds; the machine is overloaded") from None
        for descriptor, read in (
            (out, self.stdout.read),
            (err, self.stderr.read),
            (self._status, self._read_status),
            (ours.fileno(), self._read_claims),
        ):
            self._loop.add_reader(descriptor, read)

    def _plan(self, limits: Limits) -> dict[str, Any]:
        return {
            "profile": self.kind.profile,
            "network": self.kind.network,
            "layers": list(self.layers),
            "binds": [list(bind) for bind in self.kind.binds],
            "paths": list(self.kind.paths),
            "readable": [source for source, _ in self.kind.binds]
            + [f"/dev/{name}" for name in seal.DEVICES]
            + list(self.kind.outer_paths),
            "cgroups": [] if self.cell is None else self.cell.paths,
            "folder": self._folder,
            "disk_bytes": limits.disk_bytes,
            "files": limits.files,
            "limits": {"CORE": 0, "NOFILE": 128, "FSIZE": limits.disk_bytes, "MEMLOCK": 0, "MSGQUEUE": 0},
        }

    async def _greet(self) -> None:
        """The first byte brings the directory and the proxy's socket, the second says that it is sealed."""
        said = b""
        while True:
            await self._readable(self._socket.fileno())
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 2048 if said else 1, 2)
            except BlockingIOError:
                continue
            if descriptors:
                self._work, self._gate = (*descriptors, -1)[:2]
            said += data
            if said == b"WR" and self._work >= 0:
                return
            if said == b"!":
                continue
            if not data or not b"WR".startswith(said):
                reason = said.lstrip(b"WR!").decode("utf-8", "replace") or "it ended before it was sealed"
                raise FailedPrecondition(f"no sandbox could be made: {reason}")

    async def _readable(self, descriptor: int) -> None:
        event = asyncio.Event()
        self._loop.add_reader(descriptor, event.set)
        try:
            await event.wait()
        finally:
            self._loop.remove_reader(descriptor)

    def _read_status(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self._status, 64)
        self._report += data
        if not data or len(self._report) >= STATUS.size:
            self._loop.remove_reader(self._status)
            self._done.set()

    def _read_claims(self) -> None:
        data = b""
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            pass
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            return
        self._claims.feed(data)
        if self._keeps and (self._claims.claims or self._claims.broken):
            self._done.set()

    def _told(self, name: str, data: bytes) -> None:
        if self.tell is not None:
            self.tell(name, data)

    def _overflowed(self) -> None:
        self.stop("output")

    def stop(self, verdict: Verdict) -> None:
        """End the run that is on, and the sandbox with it."""
        if self._stopped is None:
            self._stopped = verdict
        self._keeper.kill(self._id)
        self._done.set()

    @property
    def _socket(self) -> socket.socket:
        if self._channel is None:
            raise Unavailable("the sandbox was not made")
        return self._channel

    def listener(self) -> socket.socket:
        """The socket that listens in there, for the caller to close. Of a kind with network."""
        return socket.socket(fileno=os.dup(self._gate))

    @property
    def ready(self) -> bool:
        """Whether it lives and can be given a job."""
        return not (self._gone.is_set() or self._report or self._keeper.dead or self._stopped)

    async def run(self, job: Job, limits: Limits, tell: Output | None = None) -> Outcome:
        """Run a job. A sandbox runs one, unless the job says that it stays. Raises Unavailable."""
        self._keeps = job.keep
        self.tell = tell
        self._claims = ClaimReader()
        self._done.clear()
        self._given.update(job.files)
        for stream in (self.stdout, self.stderr):
            stream.begin(limits.output_bytes)
        if self.cell is not None:
            try:
                self.cell.limit(limits.memory_bytes, limits.processes + 2)
            except OSError as error:
                raise Unavailable(f"the sandbox's limits can't be set: {error.strerror}") from error
        self._brake.release()
        began = time.monotonic()
        watches = [self._loop.create_task(watch) for watch in self._watches(limits)]
        try:
            async with asyncio.timeout(limits.timeout_ms / 1000):
                await self._send(self._message(job, limits))
                await self._done.wait()
        except TimeoutError:
            self.stop("timeout")
        except BaseException:
            self.stop("cancelled")
            raise
        finally:
            for watch in watches:
                watch.cancel()
        wall_ms = (time.monotonic() - began) * 1000
        alive = job.keep and self._stopped is None and len(self._report) < STATUS.size and self._said_once()
        if alive:
            self._brake.hold(self.pid)
        else:
            await self._end()
        for stream in (self.stdout, self.stderr):
            if stream.open:
                stream.read()
        products: list[Product] = []
        left_out: list[str] = []
        if holds_any(self._work):
            products, left_out = await asyncio.to_thread(collect, self._work, self._given, limits)
        if alive:
            self._given.update({product.name: product.data for product in products})
        return self._outcome(products, left_out, wall_ms, limits, alive=alive)

    def _watches(self, limits: Limits) -> Iterator[Coroutine[Any, Any, None]]:
        """What nobody but us looks at during a run."""
        if self._folder:
            yield self._watch_folder(limits)
        if self.cell is not None:
            yield self._watch_memory(self.cell)

    async def _watch_folder(self, limits: Limits) -> None:
        """Where the file system of the sandbox has no quota, look: what grows too large ends the run."""
        while await asyncio.to_thread(count, self._folder, limits.disk_bytes, limits.files):
            await asyncio.sleep(_LOOK_SECONDS)
        self.stop("disk")

    async def _watch_memory(self, cell: Cell) -> None:
        """Where the kernel sees memory to reclaim, and the run gets nowhere for it."""
        found = 0
        while found < _LOOKS:
            await asyncio.sleep(_LOOK_SECONDS)
            found = found + 1 if cell.thrashes() else 0
        self.stop("memory")

    def _said_once(self) -> bool:
        return len(self._claims.claims) == 1 and not self._claims.broken

    def _message(self, job: Job, limits: Limits) -> bytes:
        resources = {"CPU": math.ceil(limits.timeout_ms / 1000) + 1}
        if "uid" in self.layers or "namespaces" in self.layers:
            resources["NPROC"] = limits.processes + 2
        if self.cell is None:
            room = max(16 * MIB, limits.memory_bytes - limits.disk_bytes)
            mapped, private = self._keeper.memory_bytes()
            resources["AS"] = mapped + room + _LIBRARY_BYTES
            resources["DATA"] = private + room
        rooted = "namespaces" in self.layers
        data = json.dumps(
            {
                "source": job.source,
                "stdin": base64.b64encode(job.stdin).decode(),
                "files": {name: base64.b64encode(data).decode() for name, data in job.files.items()},
                "argv": list(job.argv),
                "source_file": job.source_file,
                "environment": job.environment,
                "keep": job.keep,
                "limits": resources,
                "paths": [] if rooted else list(self.kind.outer_paths),
            }
        ).encode()
        return struct.pack("=I", len(data)) + data

    async def _send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError:
            self._done.set()  # It ended: what it left says why.

    async def _end(self) -> None:
        """Wait until no code runs any more; then all that was written has come.

        A report comes when only the sandbox's first process is left, which is not of the code's making.
        """
        if len(self._report) < STATUS.size:
            self._keeper.kill(self._id)
            await self._gone.wait()
        for stream in (self.stdout, self.stderr):
            for _ in range(64):
                if not stream.open or stream.overflows:
                    break
                before = stream.count
                stream.read()
                if stream.open and stream.count == before:
                    break

    def _outcome(
        self, products: list[Product], left_out: list[str], wall_ms: float, limits: Limits, *, alive: bool
    ) -> Outcome:
        status, cpu_ms, resident = None, None, None
        if len(self._report) >= STATUS.size:
            status, user, system, resident_kib = STATUS.unpack(self._report[: STATUS.size])
            cpu_ms, resident = (user + system) * 1000, resident_kib * 1024
        ended_by = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        exit_status = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        claim = self._claims.claims[0] if self._said_once() else None
        if alive and claim is not None:
            exit_status = claim.status
        peak = self.cell.peak_bytes() if self.cell is not None else resident
        return Outcome(
            verdict=self._verdict(exit_status, ended_by, cpu_ms, limits),
            exit_status=exit_status,
            signal=ended_by,
            stdout=bytes(self.stdout.kept),
            stderr=bytes(self.stderr.kept),
            stdout_bytes=self.stdout.count,
            stderr_bytes=self.stderr.count,
            value=claim.value if claim else None,
            value_text=claim.text if claim else None,
            products=products,
            left_out=left_out,
            wall_ms=wall_ms,
            cpu_ms=cpu_ms,
            peak_memory_bytes=peak,
            alive=alive,
        )

    def _verdict(
        self, exit_status: int | None, ended_by: int | None, cpu_ms: float | None, limits: Limits
    ) -> Verdict:
        if self._stopped is not None and self._stopped != "timeout":
            return self._stopped
        if self.cell is not None and self.cell.oom_kills():
            return "memory"
        if self._stopped is not None:
            return self._stopped
        if exit_status == 0:
            return "ok"
        if self.cell is not None and self.cell.refused_processes():
            return "processes"
        if ended_by == signal.SIGSYS:
            return "forbidden"
        if ended_by == signal.SIGXFSZ or self._full():
            return "disk"
        if ended_by in (signal.SIGKILL, signal.SIGXCPU) and cpu_ms is not None and cpu_ms >= limits.timeout_ms:
            return "timeout"
        if exit_status is not None and self.kind.profile == "embedded":
            return _VERDICTS.get(exit_status, "error")
        return "error"

    def _full(self) -> bool:
        if "namespaces" not in self.layers or self._work < 0:
            return False
        found = os.fstatvfs(self._work)
        return found.f_bavail == 0 or found.f_ffree == 0

    async def close(self) -> None:
        """End it, if it lives, and leave nothing of it."""
        if self._id:
            self._keeper.kill(self._id)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), 5.0)
        if self._channel is not None and self._channel.fileno() >= 0:
            # A descriptor's number serves another sandbox as soon as it is closed: whoever closes, unregisters.
            for descriptor in (self._channel.fileno(), self._status):
                self._loop.remove_reader(descriptor)
            self._channel.close()
            for stream in (self.stdout, self.stderr):
                stream.close()
            os.close(self._status)
        for descriptor in (self._work, self._gate):
            if descriptor >= 0:
                os.close(descriptor)
        self._work = self._gate = -1
        self._brake.close()
        if self.cell is not None and not self.cell.remove(0):
            await asyncio.to_thread(self.cell.remove, _REMOVE_SECONDS)
        if self._folder:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(remove_tree, self._folder)

    async def __aenter__(self) -> Box:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
