"""All settings of Smol: one struct per layer, assembled here, and a flat list of what they hold.

Covers the shape of smol.toml. Reading it is `config`; the variables that override it are `environment`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec

from smol import tables
from smol.host.settings import HostSettings, MemorySettings
from smol.types import Json
from smol.units.gateway.settings import GatewaySettings

__all__ = ["Setting", "Settings", "documented", "list_settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of smol.toml.

    units: one table per unit, [units.NAME]; the unit is given it as it stands.
    """

    host: HostSettings = HostSettings()
    memory: MemorySettings = MemorySettings()
    gateway: GatewaySettings = GatewaySettings()
    units: dict[str, dict[str, Json]] = msgspec.field(default_factory=dict)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One key of smol.toml.

    keys: the tables it is in, and its own name.
    """

    keys: tuple[str, ...]
    annotation: Any
    default: Any
    doc: str

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return "SMOL_" + "_".join(self.keys).upper()

    @property
    def free_form(self) -> bool:
        """Whether it is a table of tables whose keys Smol does not know."""
        kinds = tables.variants(self.annotation)
        return any(get_origin(kind) is dict and get_origin(get_args(kind)[1]) is dict for kind in kinds)


def list_settings(kind: type[msgspec.Struct], keys: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting of a settings struct and of the structs in it, in order."""
    docs = documented(kind)
    for field in msgspec.structs.fields(kind):
        path = (*keys, field.encode_name)
        inner = [
            variant
            for variant in tables.variants(field.type)
            if isinstance(variant, type) and issubclass(variant, msgspec.Struct)
        ]
        if inner:
            yield from list_settings(inner[0], path)
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        yield Setting(keys=path, annotation=field.type, default=default, doc=docs.get(field.encode_name, ""))


def documented(kind: type) -> dict[str, str]:
    """The `name: text` paragraphs of a class's docstring."""
    docs: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        if start := re.match(r"([a-z][a-z0-9_]*): (.+)", line):
            name = start[1]
            docs[name] = start[2].strip()
        elif name and line.startswith(" "):
            docs[name] += " " + line.strip()
        else:
            name = ""
    return docs
