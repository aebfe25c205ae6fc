"""Ways to a host: one that runs, or a private one that lives as long as it is needed.

Both work in `async with` and, for programs without an event loop, in `with`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from smol.client.blocking import BlockingClient
from smol.client.session import Client
from smol.errors import Unavailable
from smol.locations import locate

__all__ = ["Connector", "LocalConnector", "connect", "local"]

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0


class Connector:
    """A way to a host that runs."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._client: Client | None = None
        self._blocking: BlockingClient | None = None

    async def open(self) -> Client:
        """Connect."""
        return await Client.open(self._socket or locate().socket)

    def release(self) -> None:
        """Undo what `open` made, beside the connection."""

    async def __aenter__(self) -> Client:
        self._client = await self.open()
        return self._client

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._client is not None
        try:
            await self._client.close()
        finally:
            await asyncio.to_thread(self.release)

    def __enter__(self) -> BlockingClient:
        self._blocking = BlockingClient(self.open)
        return self._blocking

    def __exit__(self, *exc_info: object) -> None:
        assert self._blocking is not None
        try:
            self._blocking.close()
        finally:
            self.release()


class LocalConnector(Connector):
    """A way to a host of one's own, which ends with this process at the latest.

    It shares models and data with other hosts of the same user, not its socket.
    """

    def __init__(self, settings: Mapping[str, str], config: Path | None, quiet: bool) -> None:
        super().__init__(None)
        self._settings = settings
        self._config = config
        self._quiet = quiet
        self._directory = ""
        self._process: subprocess.Popen[bytes] | None = None

    async def open(self) -> Client:
        """Start the host and connect."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            await asyncio.shield(starting)
            return await Client.open(Path(self._directory) / "s")
        except BaseException:
            if self._process is not None and not starting.done():
                self._process.kill()  # So that the thread does not wait for it any longer.
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()
            await asyncio.to_thread(self.release)
            raise

    def release(self) -> None:
        """End the host and wait for it."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()  # Its sign to stop.
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="smol-")
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "smol.cli.main", "serve", "--private", "--ready-fd", str(writer)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        environment = {**os.environ, **self._settings, "SMOL_SOCKET": f"{self._directory}/s"}
        if self._quiet:
            environment.setdefault("SMOL_HOST_LOG_LEVEL", "error")
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env=environment, pass_fds=[writer], process_group=0
            )
        finally:
            os.close(writer)
        try:
            if not select.select([reader], [], [], _START_SECONDS)[0]:
                raise Unavailable(f"the private host did not start within {_START_SECONDS:.0f} s")
            if not os.read(reader, 1):
                status = self._process.wait(_STOP_SECONDS)
                raise Unavailable(f"the private host could not start (exit status {status}); run 'smol doctor'")
        except BaseException:
            self.release()
            raise
        finally:
            os.close(reader)


def connect(socket: str | Path | None = None) -> Connector:
    """A running host: `async with smol.connect() as s`, or `with smol.connect() as s`.

    socket: its Unix socket; default: $SMOL_SOCKET, or where `smol serve` puts it.
    """
    return Connector(Path(socket) if socket is not None else None)


def local(
    settings: Mapping[str, str] | None = None, *, config: str | Path | None = None, quiet: bool = True
) -> LocalConnector:
    """A private host for a script or a test: `async with smol.local() as s`, or `with smol.local() as s`.

    settings: environment variables for it, as `{"SMOL_HOME": "/tmp/x"}`. config: its smol.toml.
    quiet: log errors only.
    """
    return LocalConnector(settings or {}, Path(config) if config is not None else None, quiet)
