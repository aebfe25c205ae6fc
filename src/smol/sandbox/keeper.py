"""The asker's end of a nursery: start it, ask for sandboxes, learn when they are gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smol.errors import FailedPrecondition, ResourceExhausted, Unavailable

__all__ = ["Keeper"]

_SOURCE = Path(__file__).parents[2]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from smol.sandbox.nursery import main; "
    "sys.path.pop(0); sys.exit(main(int(sys.argv[2])))"
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_SPAWN_SECONDS = 10.0


class Keeper:
    """One nursery. `started` makes it; a dead one fails whoever waits, and says so by `dead`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._spawned: dict[int, asyncio.Future[int]] = {}
        self._gone: dict[int, asyncio.Event] = {}
        self._count = 0
        self.ready = asyncio.Event()
        self.dead = False
        self.library = ""
        self.version: tuple[int, ...] = ()
        self._loop.add_reader(control, self._hear)

    @classmethod
    async def started(cls, python: str = "") -> Keeper:
        """Start a nursery with this Python, by default the one that runs Smol. Raises FailedPrecondition."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        python = python or getattr(sys, "_base_executable", "") or sys.executable
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: ASYNC220  (it forks and executes, and is back)
                    [python, "-I", "-S", "-c", _START, str(_SOURCE), str(theirs.fileno())],
                    env=_ENVIRONMENT,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    cwd="/",
                )
        except OSError as error:
            ours.close()
            raise FailedPrecondition(f"{python} can't be executed: {error.strerror}") from error
        ours.setblocking(False)
        keeper = cls(process, ours)
        try:
            await asyncio.wait_for(keeper.ready.wait(), _SPAWN_SECONDS)
        except TimeoutError:
            await keeper.close()
            raise Unavailable("the nursery of sandboxes did not start within 10 seconds") from None
        if keeper.dead:
            await keeper.close()
            raise FailedPrecondition(f"the nursery of sandboxes ended at once; see the log ({python})")
        return keeper

    async def spawn(self, plan: dict[str, Any], descriptors: Sequence[int]) -> tuple[int, int, asyncio.Event]:
        """Fork a sandbox. Returns its id, its process id and the event of its end. Raises SmolError."""
        if self.dead:
            raise Unavailable("the nursery of sandboxes has ended; try again in a moment")
        self._count += 1
        name = self._count
        future = self._spawned[name] = self._loop.create_future()
        gone = self._gone[name] = asyncio.Event()
        try:
            message = json.dumps({"spawn": {**plan, "id": name}}).encode()
            try:
                socket.send_fds(self._control, [message], list(descriptors))
            except BlockingIOError:
                raise ResourceExhausted("the nursery of sandboxes is behind", retry_after_ms=50) from None
            except OSError as error:
                raise Unavailable(f"the nursery of sandboxes has ended: {error.strerror}") from error
            pid = await asyncio.wait_for(future, _SPAWN_SECONDS)
        except BaseException:
            self._spawned.pop(name, None)
            self.kill(name)
            raise
        return name, pid, gone

    def kill(self, name: int) -> None:
        """End a sandbox with all that is in it."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"kill": name}).encode())

    def _hear(self) -> None:
        while True:
            try:
                data = self._control.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            message = json.loads(data)
            if "ready" in message:
                self.library, self.version = message["library"], tuple(message["version"])
                self.ready.set()
            elif "gone" in message:
                self._gone.pop(message["gone"], asyncio.Event()).set()
            else:
                self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        future = self._spawned.pop(int(message.get("spawned", message.get("failed", 0))), None)
        if future is None or future.done():
            return
        if "spawned" in message:
            future.set_result(message["pid"])
        else:
            self._gone.pop(message["failed"], None)
            future.set_exception(FailedPrecondition(f"no sandbox could be made: {message['error']}"))

    def _end(self) -> None:
        self.dead = True
        self.ready.set()
        self._loop.remove_reader(self._control)
        for future in self._spawned.values():
            if not future.done():
                future.set_exception(Unavailable("the nursery of sandboxes has ended; try again in a moment"))
        for event in self._gone.values():
            event.set()
        self._spawned.clear()
        self._gone.clear()

    async def close(self) -> None:
        """End the nursery, which ends its sandboxes and cleans up."""
        if not self.dead:
            self._loop.remove_reader(self._control)
            self.dead = True
        self._control.close()
        for event in self._gone.values():
            event.set()
        for _ in range(200):
            if self.process.poll() is not None:
                return
            await asyncio.sleep(0.01)
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    @property
    def pid(self) -> int:
        return self.process.pid

    def memory_bytes(self) -> tuple[int, int]:
        """What it has mapped, and what of that is private and writable: limits on both must leave room for it."""
        with open(f"/proc/{self.pid}/statm") as file:
            fields = file.read().split()
        page = os.sysconf("SC_PAGE_SIZE")
        return int(fields[0]) * page, int(fields[5]) * page
