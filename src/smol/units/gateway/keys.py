"""API keys: made, listed and revoked on the command line, compared by the gateway.

A key is 256 bits of chance, so one SHA-256 of it is as safe at rest as a slow hash would be.
The key itself is shown once and kept nowhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from smol.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, nearest
from smol.locations import own_directory

__all__ = ["Key", "KeyFile", "keys_path"]

PREFIX = "smol_"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret.

    sha256: of the secret, in hexadecimal. allow: patterns of operations, as `detect.*`.
    per_minute: requests; 0 for any number. created: seconds since 1970.
    """

    name: str
    sha256: str
    allow: tuple[str, ...] = ("*",)
    per_minute: int = 0
    created: float = 0.0

    def allows(self, operation: str) -> bool:
        """Whether its holder may call an operation."""
        return any(fnmatchcase(operation, pattern) for pattern in self.allow)


def keys_path(data_directory: Path) -> Path:
    """Where a host keeps its keys."""
    return data_directory / "units" / "gateway" / "keys.json"


class KeyFile:
    """The keys of one host, read again whenever their file changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> tuple[Key, ...]:
        """Every key. Raises DataLoss when the file can't be understood: then nobody is let in."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            try:
                self._keys = msgspec.json.decode(self._path.read_bytes(), type=tuple[Key, ...])
            except msgspec.MsgspecError as error:
                raise DataLoss(
                    f"{self._path} can't be read ({error}): restore it, or delete it and make new keys"
                ) from None
            self._seen = seen
        return self._keys

    def find(self, secret: str) -> Key | None:
        """The key with this secret. Takes as long for a wrong one as for a right one."""
        digest = _digest(secret)
        found: Key | None = None
        for key in self.all():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def create(self, name: str, allow: Sequence[str] = ("*",), per_minute: int = 0) -> str:
        """Make a key. Returns its secret, which can't be had again. Raises AlreadyExists, InvalidArgument."""
        if not name or len(name) > 64 or not name.isprintable():
            raise InvalidArgument(f"{name!r} is not a name for a key: 1 to 64 printable characters")
        if per_minute < 0:
            raise InvalidArgument(f"{per_minute} requests per minute: give 0 for any number, or more")
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._locked():
            keys = self.all()
            if any(key.name == name for key in keys):
                raise AlreadyExists(f"there is a key named {name!r} already: revoke it, or choose another name")
            fresh = Key(
                name=name, sha256=_digest(secret), allow=tuple(allow), per_minute=per_minute, created=time.time()
            )
            self._write((*keys, fresh))
        return secret

    def revoke(self, name: str) -> None:
        """Take a key back, from the next request on. Raises NotFound."""
        with self._locked():
            keys = self.all()
            if all(key.name != name for key in keys):
                known = [key.name for key in keys]
                raise NotFound(f"no key {name!r}{nearest(name, known)}; known: {', '.join(known) or 'none'}")
            self._write(tuple(key for key in keys if key.name != name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, whatever process it is in."""
        own_directory(self._path.parent)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, keys: Sequence[Key]) -> None:
        fresh = self._path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(keys))
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
