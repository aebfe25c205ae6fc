"""The tables of the storage unit, as numbered migrations.

`collections` row 0 holds the totals of all; triggers keep its numbers and those of each collection.
An item's version is the number of its last change, counted over the whole file, so that versions also
order changes and a key made anew never repeats one. A deleted item stays as a row without value until
newer deletions push it out: that is what `watch` reads. JSON is stored as TEXT, bytes as BLOB.
An object is complete when it has a hash, being uploaded when it has a token, dead when it has neither.
"""

from __future__ import annotations

from smol.store import Migration

__all__ = ["MIGRATIONS"]

_FIRST = """
CREATE TABLE collections(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    items INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    max_items INTEGER,
    max_bytes INTEGER,
    text_fields TEXT
);
INSERT INTO collections(id, name) VALUES (0, '');
CREATE TABLE items(
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    value,
    media_type TEXT,
    name TEXT,
    object INTEGER,
    bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    expires_ms INTEGER
);
CREATE UNIQUE INDEX items_key ON items(collection, key);
CREATE UNIQUE INDEX items_version ON items(version);
CREATE INDEX items_expiry ON items(expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX items_object ON items(object) WHERE object IS NOT NULL;
CREATE INDEX items_deleted ON items(version) WHERE deleted;
CREATE TRIGGER items_inserted AFTER INSERT ON items BEGIN
    UPDATE collections SET items = items + 1 - NEW.deleted, bytes = bytes + NEW.bytes
    WHERE id IN (0, NEW.collection);
END;
CREATE TRIGGER items_updated AFTER UPDATE OF bytes, deleted ON items
WHEN NEW.bytes <> OLD.bytes OR NEW.deleted <> OLD.deleted BEGIN
    UPDATE collections SET items = items + OLD.deleted - NEW.deleted, bytes = bytes + NEW.bytes - OLD.bytes
    WHERE id IN (0, NEW.collection);
END;
CREATE TRIGGER items_removed AFTER DELETE ON items BEGIN
    UPDATE collections SET items = items - 1 + OLD.deleted, bytes = bytes - OLD.bytes
    WHERE id IN (0, OLD.collection);
END;
CREATE TABLE objects(
    id INTEGER PRIMARY KEY,
    upload TEXT UNIQUE,
    sha256 TEXT UNIQUE,
    bytes INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER
);
CREATE TABLE chunks(
    id INTEGER PRIMARY KEY,
    object INTEGER NOT NULL,
    start INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX chunks_start ON chunks(object, start);
CREATE TABLE outcomes(
    key TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    outcome BLOB NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX outcomes_expiry ON outcomes(expires_ms);
CREATE TABLE vectors(
    item INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    dimensions INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX vectors_collection ON vectors(collection, dimensions);
CREATE VIRTUAL TABLE texts USING fts5(collection UNINDEXED, body, tokenize = 'unicode61 remove_diacritics 2');
CREATE TABLE marks(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO marks(name, value) VALUES ('forgotten', 0);
"""

MIGRATIONS = (Migration(1, "collections, items, objects, search", _FIRST),)
