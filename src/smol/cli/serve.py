"""`smol serve`: run the host in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from smol.cli.config import find, load
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.host.allowance import Allowance
from smol.host.enforcement import scope_command
from smol.host.host import Host
from smol.host.host import serve as serve_host
from smol.host.settings import locations_of
from smol.host.zygote import Zygote
from smol.sdk.worker import configure_logging, new_event_loop
from smol.units.gateway.keys import KeyFile, keys_path
from smol.units.gateway.settings import check_exposure

__all__ = ["serve"]


@click.command()
@click.option("--private", is_flag=True, hidden=True, help="End when standard input closes.")
@click.option("--ready-fd", type=int, hidden=True, help="Descriptor to write a byte to once the host serves.")
@click.option("--config", hidden=True)
@click.option("--scoped", is_flag=True, hidden=True, help="Started in a scope of its own already.")
def serve(private: bool, ready_fd: int | None, config: str | None, scoped: bool) -> None:
    """Run the host until SIGTERM or Ctrl-C; it finishes what runs, then stops.

    SIGHUP reads all units and their settings again, and restarts the workers of those that changed.
    """
    options = current_options()
    settings = load(Settings, find(Path(config) if config else options.config))
    locations = locations_of(settings.host)
    if not private:
        check_exposure(settings.gateway, len(KeyFile(keys_path(locations.data)).all()))
    os.environ["SMOL_SOCKET"] = str(locations.socket)  # For workers that are also clients.
    configure_logging(settings.host.log_format, settings.host.log_level, "host")

    def ready(host: Host) -> None:
        if private:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _watch_input, host)
        if ready_fd is not None:
            os.write(ready_fd, b"1")
            os.close(ready_fd)

    private_descriptors = () if ready_fd is None else (ready_fd,)
    with Allowance(settings.host.budget_bytes) as allowance:
        if not allowance.is_hard and not scoped:
            _move_into_scope()
        zygote = Zygote.fork(*private_descriptors)  # Before anything that a worker should not see, or can't share.
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(
                serve_host(
                    settings.host,
                    settings.memory,
                    _unit_settings(settings),
                    allowance,
                    zygote,
                    ready,
                    private=private,
                    reread=lambda: _unit_settings(
                        load(Settings, find(Path(config) if config else options.config))
                    ),
                )
            )


def _unit_settings(settings: Settings) -> dict[str, dict[str, Any]]:
    """The table of each unit; the gateway's is one of its own."""
    return {**settings.units, "gateway": msgspec.to_builtins(settings.gateway, enc_hook=str)}


def _move_into_scope() -> None:
    """Become the same command in a scope where the kernel can keep the budget, if there is who makes one."""
    command = scope_command([sys.executable, *sys.orig_argv[1:], "--scoped"])
    if command is not None:
        os.execvp(command[0], command)  # noqa: S606  (the point: no shell)


def _watch_input(host: Host) -> None:
    """A private host lives as long as whoever started it holds its standard input open."""
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            host.request_stop()
