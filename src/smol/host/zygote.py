"""The zygote: a warm, single-threaded process from which workers are forked in milliseconds.

The host sends requests over a socket pair of sequenced packets; each carries a JSON `LaunchRequest` and
the worker's end of its connection as a descriptor; the answer is the worker's process id.

A worker is forked twice, so that it becomes the host's child (the host is a subreaper) and survives the
zygote; it asks the kernel to be killed when the host dies. Where the kernel offers neither (macOS), a worker
ends when its connection to the host closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from smol.errors import FailedPrecondition
from smol.host.cages import Cage, enter
from smol.host.warmth import warm_up
from smol.protocol.frames import encode_frame
from smol.protocol.messages import encode_message, error_message
from smol.sdk.worker import FD_VARIABLE, SPEC_VARIABLE, WorkerSpec, run_worker

__all__ = ["LaunchRequest", "Zygote", "become_subreaper", "die_with_parent", "main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PID = struct.Struct("=i")
REQUEST_BYTES = 1 << 17


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to start. argv: what to execute; empty to fork. host: the host's process id."""

    spec: WorkerSpec
    host: int
    cage: Cage = Cage()
    argv: tuple[str, ...] = ()
    directory: str = ""


def become_subreaper() -> bool:
    """Adopt orphaned descendants of this process. False where the kernel can't."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """Be killed when the parent process ends. False where the kernel can't."""
    return _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


class Zygote:
    """A running zygote, as its host sees it. control: where requests go and answers come from."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control

    @classmethod
    def fork(cls, *closing: int) -> Zygote:
        """Fork one from this process, with which it then shares memory, but for the descriptors `closing`.

        For a process that has no thread, no event loop and nothing to hide yet.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        host = os.getpid()
        gc.collect()
        gc.freeze()  # A collection would otherwise touch, and so copy, every page that both share.
        pid = os.fork()
        if pid == 0:
            ours.close()
            for descriptor in closing:
                os.close(descriptor)
            _be(lambda: _serve(theirs, host))
        theirs.close()
        return cls(pid, ours)

    @classmethod
    def execute(cls) -> Zygote:
        """Start one from scratch, in place of one that died."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            arguments = [sys.executable, "-m", "smol.host.zygote", str(theirs.fileno()), str(os.getpid())]
            pid = os.posix_spawn(sys.executable, arguments, os.environ)
        return cls(pid, ours)

    def end(self) -> None:
        """Kill it; the workers it forked live on."""
        self.control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def main() -> int:
    """Entry of a zygote that was executed: the descriptor of its socket and the host's process id follow."""
    return _serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))


def _serve(control: socket.socket, host: int) -> int:
    """Answer launch requests until the host closes its end."""
    os.setpgid(0, 0)  # Signals from a terminal are for the host.
    die_with_parent()
    if os.getppid() != host:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # Else ONNX Runtime reports to its makers, once imported.
    warm_up()
    gc.collect()
    gc.freeze()  # As when forked from the host: for the workers.
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not data:
            return 0
        try:
            pid = _launch(data, descriptors[0], control) if descriptors else -1
        except OSError:  # No room for another process.
            pid = -1
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(_PID.pack(pid))


def _launch(data: bytes, descriptor: int, control: socket.socket) -> int:
    """Fork twice. Returns the worker's process id, in the child never."""
    reader, writer = os.pipe()
    try:
        middle = os.fork()
        if middle == 0:
            _be(lambda: _fork_worker(data, descriptor, control, reader, writer))
        os.close(writer)
        writer = -1
        answer = os.read(reader, _PID.size)
        os.waitpid(middle, 0)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    return int(_PID.unpack(answer)[0]) if len(answer) == _PID.size else -1


def _fork_worker(data: bytes, descriptor: int, control: socket.socket, reader: int, writer: int) -> int:
    worker = os.fork()
    if worker == 0:
        os.close(reader)
        os.close(writer)
        control.close()
        _be(lambda: _run(data, descriptor))
    with contextlib.suppress(OSError):  # Whoever comes first: nobody may meet it outside its group.
        os.setpgid(worker, worker)
    os.write(writer, _PID.pack(worker))
    return 0


def _be(main: Callable[[], int]) -> NoReturn:
    """Be a forked process: end with `main`, and run nothing of the stack that was copied."""
    status = 1
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(data: bytes, descriptor: int) -> int:
    """Be a worker. Returns its exit status, unless it executes another program."""
    os.setpgid(0, 0)
    request = msgspec.json.decode(data, type=LaunchRequest)
    enter(request.cage)
    if become_orphan_of(request.host) and die_with_parent() and os.getppid() != request.host:
        return 1
    os.dup2(2, 1)  # What a unit prints must not mix with a command's output.
    if request.argv:
        return _execute(request, descriptor)
    return run_worker(request.spec, socket.socket(fileno=descriptor))


def become_orphan_of(host: int) -> bool:
    """Wait until the process that forked this one is gone and the host has adopted it."""
    deadline = time.monotonic() + 1.0
    while os.getppid() != host:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0002)
    return True


def _execute(request: LaunchRequest, descriptor: int) -> int:
    os.set_inheritable(descriptor, True)
    variables = {
        **os.environ,
        SPEC_VARIABLE: msgspec.json.encode(request.spec).decode(),
        FD_VARIABLE: str(descriptor),
    }
    try:
        if request.directory:
            os.chdir(request.directory)
        os.execvpe(request.argv[0], request.argv, variables)  # noqa: S606  (the point: no shell)
    except OSError as error:
        reason = FailedPrecondition(f"{request.argv[0]} can't be executed: {error.strerror}")
        with socket.socket(fileno=descriptor) as connection:
            connection.sendall(b"".join(encode_frame(encode_message(error_message(0, reason)), (), 0)))
    return 127


if __name__ == "__main__":
    sys.exit(main())
