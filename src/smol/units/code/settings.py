"""The unit's own table of smol.toml: `[units.code]`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from smol import tables
from smol.errors import InvalidArgument
from smol.sandbox.reach import Reach
from smol.sizes import GIB, KIB, MIB, Size

__all__ = ["Settings", "read_settings"]

_MOST_OUTPUT = 256 * KIB
"""A result is one message, which a mebibyte of JSON bounds."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See docs/how-to/run-code.md.

    minimum_tier: below it, nothing is run. warm: sandboxes kept ready. concurrency: runs at once;
    queue: runs waiting, the next one is refused. most_memory, most_timeout_ms: no run may ask for more.
    disk, files: room in the sandbox, taken from its memory. sessions: open at once.
    session_idle_seconds: a session that rests longer is closed.
    environments: names of directories of Python packages, or of lists of packages for the host to fetch.
    network: what code may reach that asks for the network; nothing by default.
    """

    minimum_tier: Literal["strong", "nocgroup", "landlock"] = "nocgroup"
    warm: Annotated[int, Meta(ge=0, le=64)] = 2
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8
    queue: Annotated[int, Meta(ge=0, le=4096)] = 64
    most_memory: Size = GIB
    most_timeout_ms: Annotated[int, Meta(ge=1)] = 300_000
    disk: Size = 32 * MIB
    files: Annotated[int, Meta(ge=16, le=1_000_000)] = 2048
    processes: Annotated[int, Meta(ge=1, le=4096)] = 64
    output: Size = _MOST_OUTPUT
    sessions: Annotated[int, Meta(ge=0, le=256)] = 8
    session_idle_seconds: Annotated[float, Meta(gt=0)] = 600.0
    environments: dict[str, str | list[str]] = {}
    network: Reach = Reach()


def read_settings(table: Mapping[str, Any]) -> Settings:
    """Raises InvalidArgument, naming the key."""
    settings = tables.decode(dict(table), Settings, tables.Source("[units.code] in smol.toml", "", Path()))
    if settings.output > _MOST_OUTPUT:
        raise InvalidArgument(
            f"[units.code] output = {settings.output} is more than a result can carry; at most "
            f"{_MOST_OUTPUT}, and code.stream tells all as it comes"
        )
    settings.network.check("units.code.network")
    return settings
