"""The main function of a worker process, however it was started: forked, or as `python -m smol.sdk.worker`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from smol.errors import FailedPrecondition, SmolError
from smol.protocol import Role
from smol.protocol.messages import error_message
from smol.sdk.context import Environment
from smol.sdk.serve import Worker
from smol.sdk.unit import Unit
from smol.transport import Channel, from_socket

try:
    import uvloop
except ImportError:  # Where uvloop has no wheel, asyncio's own loop serves.
    uvloop = None

__all__ = [
    "FD_VARIABLE",
    "SPEC_VARIABLE",
    "UnitSpec",
    "WorkerSpec",
    "configure_logging",
    "new_event_loop",
    "run_worker",
    "serve_worker",
]

SPEC_VARIABLE = "SMOL_WORKER_SPEC"
FD_VARIABLE = "SMOL_WORKER_FD"


class UnitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that a worker is to serve. class_path: `package.module:Class`; search: a directory to import from."""

    name: str
    version: str = "0"
    class_path: str = ""
    search: str = ""
    data_dir: str = ""
    cache_dir: str = ""
    settings: dict[str, Any] = {}


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told when it starts. describe_only: say what the units offer, and end."""

    name: str
    units: list[UnitSpec]
    threads: int = 4
    describe_only: bool = False
    log_format: str = "text"
    log_level: str = "info"


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure_logging(log_format: str, log_level: str, prefix: str) -> None:
    """Log to standard error, as text for people or JSON for machines."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {prefix}: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop where it is installed, else asyncio's."""
    return uvloop.new_event_loop() if uvloop is not None else asyncio.new_event_loop()


def run_worker(spec: WorkerSpec, connection: socket.socket) -> int:
    """Serve until the host ends it. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which drains its workers.
    configure_logging(spec.log_format, spec.log_level, spec.name)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # It is a pipe to the log: what is printed shows at once.
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve_worker(spec, connection))


async def serve_worker(spec: WorkerSpec, connection: socket.socket) -> int:
    """Serve on the running loop. Returns the exit status."""
    relay = _Relay()
    channel = await from_socket(connection, Role.PEER, relay)
    try:
        worker = Worker([_load(unit) for unit in spec.units], spec.threads)
    except SmolError as error:
        channel.try_send(error_message(0, error))
        channel.close()
        return 1
    relay.worker = worker
    channel.handler = worker
    try:
        await worker.run(channel, describe_only=spec.describe_only)
    except SmolError:
        return 1
    return 0


class _Relay:
    """Holds the channel until the worker is there; the host says nothing before `hello`."""

    worker: Worker | None = None

    def on_message(self, channel: Channel, message: Any, body: Any) -> None:
        """The host spoke before it was greeted; the session refuses that by itself."""

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        """The host went away before the units were loaded: nothing to undo."""
        os._exit(1)


def _load(spec: UnitSpec) -> tuple[str, str, Unit, Environment]:
    if spec.search and spec.search not in sys.path:
        sys.path.insert(0, spec.search)
    module_name, _, class_name = spec.class_path.partition(":")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
        unit = kind()
    except SmolError:
        raise
    except Exception as error:
        logging.getLogger("smol.worker").exception("%s can't be loaded", spec.class_path)
        raise FailedPrecondition(
            f"unit {spec.name!r}: {spec.class_path} can't be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(unit, Unit):
        raise FailedPrecondition(f"unit {spec.name!r}: {spec.class_path} is not a smol.sdk.Unit")
    return (
        spec.name,
        spec.version,
        unit,
        Environment(
            unit=spec.name,
            log=logging.getLogger(f"smol.units.{spec.name}"),
            data_dir=Path(spec.data_dir),
            cache_dir=Path(spec.cache_dir),
            settings=spec.settings,
        ),
    )


def main() -> int:
    """Entry of a worker that was executed rather than forked."""
    try:
        spec = msgspec.json.decode(os.environ.pop(SPEC_VARIABLE), type=WorkerSpec)
        connection = socket.socket(fileno=int(os.environ.pop(FD_VARIABLE)))
    except (KeyError, ValueError, msgspec.MsgspecError, OSError) as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"smol.sdk.worker is started by a host ({error!r}); see 'smol serve'\n")
        return 2
    return run_worker(spec, connection)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # Without waiting for a thread that does not end.
