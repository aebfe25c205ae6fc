"""The storage unit: durable collections of values.

Its operations live by subject in `value_operations`, `object_operations`, `collection_operations` and
`archive_operations`; what they do to the file, in the modules without that ending.
"""

from __future__ import annotations

from smol.units.storage.archive_operations import ArchiveOperations

__all__ = ["Storage"]


class Storage(ArchiveOperations):
    """Durable collections of JSON and bytes, with large objects, search, watch and backups."""
