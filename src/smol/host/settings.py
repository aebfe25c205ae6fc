"""The settings of the host: the table `[host]` of smol.toml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from smol.locations import Locations, check_socket_path, locate
from smol.sizes import KIB, MIB, Size

__all__ = ["HostSettings", "MemorySettings", "locations_of"]

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class MemorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept in memory, by the names of workers or units.

    pinned: never unloaded to make room for others, nor for being idle.
    warm: loaded when the host starts.
    idle_seconds: after how long without a call each is unloaded, where that is not what its unit says.
    quiet_seconds: without a shortage, before a model that was degraded goes one step up again.
    leak_seconds: a worker that grows without bound for so long is started anew, between two calls.
    """

    pinned: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()
    idle_seconds: dict[str, Annotated[float, msgspec.Meta(ge=0, le=31_536_000)]] = msgspec.field(
        default_factory=dict
    )
    quiet_seconds: Seconds = 60.0
    leak_seconds: Annotated[float, msgspec.Meta(ge=1, le=31_536_000)] = 120.0


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The host: where it keeps its things, how long it waits, how much it takes at once.

    socket: Unix socket that clients connect to, at most 107 bytes long. Default: $SMOL_SOCKET, else
        smol.sock in the runtime directory.
    data_directory: models, environments of units, values stored by units. Default: the platform's
        directory for user data, or $SMOL_HOME/data.
    state_directory: what the host notes about itself. Default: the platform's, or $SMOL_HOME/state.
    cache_directory: what may be deleted at any time. Default: the platform's, or $SMOL_HOME/cache.
    runtime_directory: sockets; made with mode 0700. Default: $XDG_RUNTIME_DIR/smol, else /run/smol
        for root, else smol-<user id> in the temporary directory; or $SMOL_HOME/run.
    unit_directories: directories that hold a unit.toml, or hold directories that do.
    log_format: text for people, json for programs.
    log_level: the least severe message that is written.
    log_size: disk for what each worker, and the host, has written; the oldest goes first.
    budget: memory for all of Smol, workers included; for example "2048MiB".
    ping_interval_seconds: time between two pings of a worker.
    ping_timeout_seconds: a worker that has not answered a ping for this long is killed.
    drain_seconds: time that running calls get when Smol stops.
    default_deadline_seconds: of a call that names none.
    max_deadline_seconds: a call that asks for more gets this.
    connections: clients at once.
    calls_per_connection: calls at once of one client.
    cancel_grace_seconds: a worker that goes on with a call for so long after nobody waits for it is killed.
    """

    socket: Annotated[Path | None, msgspec.Meta(examples=["/run/smol/smol.sock"])] = None
    data_directory: Annotated[Path | None, msgspec.Meta(examples=["/var/lib/smol/data"])] = None
    state_directory: Annotated[Path | None, msgspec.Meta(examples=["/var/lib/smol/state"])] = None
    cache_directory: Annotated[Path | None, msgspec.Meta(examples=["/var/cache/smol"])] = None
    runtime_directory: Annotated[Path | None, msgspec.Meta(examples=["/run/smol"])] = None
    unit_directories: tuple[Path, ...] = ()
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_size_bytes: Size = msgspec.field(name="log_size", default=2 * MIB)
    budget_bytes: Size = msgspec.field(name="budget", default=2048 * MIB)
    ping_interval_seconds: Seconds = 10.0
    ping_timeout_seconds: Seconds = 30.0
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 10.0
    default_deadline_seconds: Seconds = 60.0
    max_deadline_seconds: Seconds = 86_400.0
    connections: Count = 256
    calls_per_connection: Count = 256
    cancel_grace_seconds: Seconds = 5.0

    def __post_init__(self) -> None:
        """Raises ValueError for settings that contradict each other."""
        if self.default_deadline_seconds > self.max_deadline_seconds:
            raise ValueError(
                f"default_deadline_seconds ({self.default_deadline_seconds:g}) is more than "
                f"max_deadline_seconds ({self.max_deadline_seconds:g})"
            )
        if self.log_size_bytes < 16 * KIB:
            raise ValueError(f"log_size ({self.log_size_bytes} bytes) is less than 16 KiB")
        if self.ping_timeout_seconds < self.ping_interval_seconds:
            raise ValueError(
                f"ping_timeout_seconds ({self.ping_timeout_seconds:g}) is less than "
                f"ping_interval_seconds ({self.ping_interval_seconds:g})"
            )


def locations_of(settings: HostSettings, environ: Mapping[str, str] | None = None) -> Locations:
    """The settings' places, with the user's default for each that is not set. Raises `InvalidArgument`."""
    environ = os.environ if environ is None else environ
    default = locate(environ)
    runtime = settings.runtime_directory or default.runtime
    moved = settings.runtime_directory is not None and not environ.get("SMOL_SOCKET")
    socket = settings.socket or (runtime / "smol.sock" if moved else default.socket)
    return Locations(
        data=settings.data_directory or default.data,
        state=settings.state_directory or default.state,
        cache=settings.cache_directory or default.cache,
        runtime=runtime,
        socket=check_socket_path(socket),
    )
