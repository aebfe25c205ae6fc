"""What the storage unit takes and gives: plain structs, and the limits of a store."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from smol.types import Attachment, Json

__all__ = [
    "Action",
    "BackupInfo",
    "Change",
    "CollectionInfo",
    "CollectionName",
    "Deleted",
    "Done",
    "Entry",
    "Item",
    "Key",
    "Limits",
    "Loaded",
    "Match",
    "Page",
    "Status",
    "Upload",
    "Written",
]

JSON_BYTES_MAX = 768 * 1024
"""Largest JSON value: it must fit a frame's header of 1 MiB with what surrounds it."""
DATA_BYTES_MAX = 8 * 1024 * 1024
"""Largest bytes value of a single put; more is uploaded in chunks."""
CHUNK_BYTES_MAX = 1024 * 1024
"""Largest chunk of an upload."""
PIECE_BYTES = 256 * 1024
"""Largest row of an object, and chunk of a download: SQLite and Python copy each a few times over."""
VECTOR_DIMENSIONS_MAX = 4096

Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]
CollectionName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$(?!\n)")]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the unit, in smol.toml under `[units.storage]`.

    max_bytes, max_items: of all collections; collection_*: of each that has no limit of its own.
    kept_deletions: how many deletions `watch` can still tell of.
    outcome_seconds: how long an idempotency key is remembered.
    upload_seconds: how long an upload may rest before it is given up.
    """

    max_bytes: Annotated[int, Meta(ge=0)] = 8 * 1024**3
    max_items: Annotated[int, Meta(ge=0)] = 10_000_000
    max_collections: Annotated[int, Meta(ge=1)] = 1000
    collection_max_bytes: Annotated[int, Meta(ge=0)] = 8 * 1024**3
    collection_max_items: Annotated[int, Meta(ge=0)] = 10_000_000
    kept_deletions: Annotated[int, Meta(ge=0)] = 10_000
    outcome_seconds: Annotated[float, Meta(gt=0)] = 86_400.0
    upload_seconds: Annotated[float, Meta(gt=0)] = 3_600.0
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    when_corrupt: Literal["set_aside", "refuse"] = "set_aside"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """version: number of this change, greater than that of every earlier one in the whole store.

    created: the key did not exist before. sha256: of a large object.
    """

    key: str
    version: int
    created: bool
    bytes: int
    sha256: str | None = None


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """existed: there was something to delete; version: number of the change, 0 when there was none."""

    key: str
    existed: bool
    version: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item without its bytes. value: the JSON value; None for bytes, which have a `media_type`.

    bytes: size of value and vector. Times are seconds since 1970.
    """

    collection: str
    key: str
    version: int
    bytes: int
    created_at: float
    updated_at: float
    expires_at: float | None = None
    value: Json = None
    media_type: str | None = None
    name: str | None = None
    sha256: str | None = None


class Item(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """An item. attachment: its bytes; None for JSON, and for a large object, which is downloaded."""

    attachment: Attachment | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """cursor: give it to the next `list`; None at the end.

    sequence: number of the last change this page knows; `watch` from there misses nothing.
    """

    entries: list[Entry]
    cursor: str | None
    sequence: int


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step of a batch. `check` only compares the version."""

    do: Literal["put", "delete", "check"]
    key: Key
    collection: CollectionName = "default"
    value: Json = None
    attachment: Attachment | None = None
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    ttl_seconds: Annotated[float, Meta(gt=0)] | None = None
    vector: list[float] | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What an action did. version: of the key after it; 0 for a key that is not there.

    existed: the key was there before.
    """

    do: Literal["put", "delete", "check"]
    key: str
    version: int
    existed: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state of a key that changed; states in between are not told.

    sequence: number of the change. entry: None when the key was deleted or has expired.
    """

    sequence: int
    collection: str
    key: str
    deleted: bool
    entry: Entry | None


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """max_items, max_bytes: the limits in force. text_fields: what full-text search covers."""

    name: str
    items: int
    bytes: int
    max_items: int
    max_bytes: int
    text_fields: list[str]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """offset: where the next chunk starts. expires_at: when a resting upload is given up."""

    upload: str
    offset: int
    chunk_bytes_max: int
    expires_at: float


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A hit. score: higher is nearer; snippet: where the words are, in [brackets]."""

    key: str
    version: int
    score: float
    value: Json
    snippet: str | None = None


class BackupInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    bytes: int
    created_at: float


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What `load` did with its lines."""

    items: int
    chunks: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """check: what the look for damage at the start found. set_aside: damaged files that still lie there.

    failures: transactions that failed since the start; see the log for each.
    """

    items: int
    bytes: int
    max_items: int
    max_bytes: int
    sequence: int
    collections: int
    file_bytes: int
    log_bytes: int
    writes: int
    commits: int
    failures: int
    check: str
    set_aside: list[str]
