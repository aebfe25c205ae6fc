"""The process in the sandbox: waits for a job on its descriptor, runs it, tells the value of the last expression.

Everything it says is a claim, for the code it runs may say the same; nobody outside believes more than its
form. What ended it, and what it used, is read by others from outside. Standard library only: see `kernel`.
"""

from __future__ import annotations

import ast
import atexit
import base64
import contextlib
import errno
import json
import linecache
import os
import resource
import struct
import sys
import threading
import traceback
from typing import Any, NoReturn

from smol.sandbox import kernel
from smol.sandbox.seal import limit_resources

__all__ = ["DISK", "FORBIDDEN", "MEMORY", "PROCESSES", "live", "open_streams"]

MEMORY, PROCESSES, FORBIDDEN, DISK = 81, 82, 83, 84
"""Exit statuses of a Python program whose uncaught exception says that it met a limit."""
_LENGTH = struct.Struct("=I")
VALUE_CHARACTERS = 1 << 16


def live(job_fd: int, plan: dict[str, Any]) -> NoReturn:
    """Run jobs until told to end. The first byte sent says that the seals are on."""
    _rehearse()
    names: dict[str, Any] = _fresh()
    os.write(job_fd, b"R")
    while True:
        head = _read(job_fd, _LENGTH.size)
        if not head:
            os._exit(0)
        job = json.loads(_read(job_fd, _LENGTH.unpack(head)[0]))
        _prepare(job)
        if job.get("argv"):
            _execute(job, job_fd)
        if not job.get("keep"):
            names = _fresh()
        status, value = _run(job["source"], names)
        if not job.get("keep"):
            _wind_up()
            _tell(job_fd, {"status": status, **value})
            os._exit(status)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        _tell(job_fd, {"status": status, **value})


def _rehearse() -> None:
    """Do once for nothing what every job does: the pages that it touches are this process's own then."""
    job = json.loads('{"source": "import json\\n[0]", "stdin": "", "files": {}, "limits": {}}')
    _prepare(job)
    status, value = _run(job["source"], _fresh())
    nothing = os.open("/dev/null", os.O_WRONLY)
    _tell(nothing, {"status": status, **value})
    os.close(nothing)


def _fresh() -> dict[str, Any]:
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module.__dict__


def _read(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = os.read(descriptor, min(count - len(data), 1 << 20))
        if not part:
            return b""
        data += part
    return bytes(data)


def _prepare(job: dict[str, Any]) -> None:
    """Files, standard input and the limits of this job."""
    for path, content in job.get("files", {}).items():
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(content))
    store = os.path.join(os.environ["TMPDIR"], ".stdin")
    with open(store, "w+b") as file:
        file.write(base64.b64decode(job.get("stdin", "")))
        file.flush()
        file.seek(0)
        os.unlink(store)
        os.dup2(file.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    if job.get("source_file"):
        with open(job["source_file"], "w", encoding="utf-8", errors="surrogateescape") as text:
            text.write(job["source"])
    sys.path += [path for path in job.get("paths", []) if path not in sys.path]
    limits = dict(job.get("limits", {}))
    if "CPU" in limits:  # what earlier jobs of a session used does not count
        used = resource.getrusage(resource.RUSAGE_SELF)
        limits["CPU"] += int(used.ru_utime + used.ru_stime)
        if job.get("keep"):
            limits.pop("CPU")
    limit_resources(limits)


def _execute(job: dict[str, Any], job_fd: int) -> NoReturn:
    kernel.close_above(3, [])
    try:
        os.execve(job["argv"][0], job["argv"], job["environment"])  # noqa: S606
    except OSError as error:
        os.write(2, f"{job['argv'][0]} can't be executed: {error.strerror}\n".encode())
        os._exit(FORBIDDEN if error.errno in (errno.EPERM, errno.EACCES) else 127)


def _run(source: str, names: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Run Python source. Returns the exit status it earned and the value of its last expression."""
    try:
        linecache.cache["<code>"] = (len(source), None, source.splitlines(True), "<code>")
        tree = ast.parse(source, "<code>")
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "<code>", "exec"), names)  # noqa: S102
        if not isinstance(last, ast.Expr):
            return 0, {}
        value = eval(compile(ast.Expression(last.value), "<code>", "eval"), names)  # noqa: S307
        return 0, _shown(value)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF, {}
        print(end.code, file=sys.stderr)
        return 1, {}
    except BaseException as error:
        with contextlib.suppress(BaseException):
            _report(error)
        return _status_of(error), {}


def _report(error: BaseException) -> None:
    """The traceback, from the first line of the program on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != "<code>":
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def _status_of(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, OSError):
        return {
            errno.EPERM: FORBIDDEN,
            errno.EACCES: FORBIDDEN,
            errno.EROFS: FORBIDDEN,
            errno.EAGAIN: PROCESSES,
            errno.ENOSPC: DISK,
            errno.EFBIG: DISK,
            errno.ENOMEM: MEMORY,
        }.get(error.errno or 0, 1)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return PROCESSES
    return 1


def _shown(value: object) -> dict[str, Any]:
    """As a notebook shows it: JSON where it can be, else its repr; nothing for None."""
    if value is None:
        return {}
    try:
        text = json.dumps(value, allow_nan=False)
        if len(text) <= VALUE_CHARACTERS and json.loads(text) == value:
            return {"json": text}
    except Exception:
        pass
    text = repr(value)
    return {"repr": text[:VALUE_CHARACTERS], "cut": len(text) > VALUE_CHARACTERS}


def _tell(job_fd: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    with contextlib.suppress(OSError):
        view = memoryview(_LENGTH.pack(len(data)) + data)
        while view:
            view = view[os.write(job_fd, view) :]


def open_streams() -> None:
    """Standard streams anew, for descriptors that were put in place after the interpreter started."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = open(  # noqa: SIM115  (they stay open)
            descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=-1, closefd=False
        )
        stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _wind_up() -> None:
    """What the interpreter does at its end, but for tearing itself down: threads, exit handlers, streams."""
    for step in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            step()
