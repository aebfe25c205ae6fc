"""What the registers unit takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from smol.errors import InvalidArgument
from smol.types import Attachment, Json

__all__ = ["Change", "Kind", "Limits", "Name", "Register", "ScopeInfo", "ScopeName", "accepts", "kind_of"]

JSON_BYTES_MAX = 768 * 1024
"""Largest JSON value: it must fit a frame's header of 1 MiB with what surrounds it."""
DATA_BYTES_MAX = 8 * 1024 * 1024
"""Largest bytes value."""

Kind: TypeAlias = Literal["boolean", "integer", "number", "text", "list", "map", "bytes", "any"]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
ScopeName: TypeAlias = Annotated[str, Meta(pattern=r"^(global|(program|session):[A-Za-z0-9_.-]{1,64})$(?!\n)")]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the unit, in smol.toml under `[units.registers]`.

    scope_*: of each scope that was not given its own; max_*: of all together.
    kept_changes: how far back `watch` can go.
    """

    scope_max_registers: Annotated[int, Meta(ge=1)] = 10_000
    scope_max_bytes: Annotated[int, Meta(ge=1)] = 16 * 1024**2
    max_registers: Annotated[int, Meta(ge=1)] = 50_000
    max_bytes: Annotated[int, Meta(ge=1)] = 64 * 1024**2
    max_scopes: Annotated[int, Meta(ge=1)] = 1000
    kept_changes: Annotated[int, Meta(ge=1)] = 10_000


class Register(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A register. version: number of its last change, greater than that of every earlier one.

    bytes: size of the value, as JSON text or raw. expires_at: seconds since 1970.
    """

    scope: str
    name: str
    kind: Kind
    version: int
    bytes: int
    value: Json = None
    attachment: Attachment | None = None
    expires_at: float | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state of a register that changed. register: None when it is gone (see `reason`)."""

    sequence: int
    scope: str
    name: str
    reason: Literal["set", "deleted", "expired", "evicted"]
    register: Register | None


class ScopeInfo(msgspec.Struct, frozen=True, kw_only=True):
    scope: str
    registers: int
    bytes: int
    max_registers: int
    max_bytes: int
    evict: Literal["never", "lru"]


def kind_of(value: Json | Attachment) -> Kind:
    """The kind a value has by itself; null has none, so that it makes `any`. Raises InvalidArgument."""
    if value is None:
        return "any"
    kinds: dict[type, Kind] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "text",
        list: "list",
        dict: "map",
        Attachment: "bytes",
    }
    kind = kinds.get(type(value))
    if kind is None:
        raise InvalidArgument(f"a register holds JSON or an attachment, not {type(value).__name__}")
    return kind


def accepts(kind: Kind, value: Json | Attachment) -> bool:
    """Whether a register of `kind` may hold `value`: its own kind, and integers where numbers are."""
    return kind == "any" or kind_of(value) == kind or (kind == "number" and kind_of(value) == "integer")
