"""A short text that changes when a unit's manifest or any of its files does."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from smol import __version__
from smol.host.manifest import Manifest

__all__ = ["fingerprint"]

_MOST_FILES = 2000


def fingerprint(manifest: Manifest, settings: str = "") -> str:
    """Changes when the version of Smol, the manifest, the settings or any file beside the manifest does."""
    digest = hashlib.sha256(f"{__version__} {manifest!r} {settings}".encode())
    for path, status in _files(manifest.path):
        digest.update(f"{path} {status.st_mtime_ns} {status.st_size}\n".encode())
    return digest.hexdigest()[:24]


def _files(directory: Path | None) -> Iterator[tuple[str, os.stat_result]]:
    """The unit's own files, without what tools leave among them; not more than anyone would write by hand."""
    count = 0
    for folder, folders, names in os.walk(directory or Path()):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                return
            with contextlib.suppress(OSError):
                yield f"{folder}/{name}", os.stat(f"{folder}/{name}")
