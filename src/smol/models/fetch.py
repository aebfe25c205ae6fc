"""Getting the bytes of one file from one place, resumed where they broke off.

Covers one source and one attempt. Which sources, how often, and where the file ends up is the store's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import unquote, urlsplit

from smol.errors import Cancelled, DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable

__all__ = ["Cancel", "Progress", "check_source", "fetch", "local_path"]

Progress: TypeAlias = Callable[[int, int], None]
"""(bytes that are here, bytes in all)"""
Cancel: TypeAlias = Callable[[], bool]

TIMEOUT_SECONDS = 15.0
_CHUNK_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SCHEMES = ("https", "http", "file")


def check_source(source: str) -> str:
    """The source itself, if it is a directory or a URL that can be read. Raises InvalidArgument."""
    scheme = urlsplit(source).scheme
    if "://" in source and scheme not in _SCHEMES:
        raise InvalidArgument(f"a model can't come from {source!r}; use https, http, file or a directory")
    return source


def local_path(source: str) -> Path | None:
    """The path that a file URL or a plain path names; None for what is on the network."""
    if "://" not in source:
        return Path(source).expanduser()
    parts = urlsplit(source)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def fetch(source: str, part: Path, expected_bytes: int, progress: Progress, cancelled: Cancel) -> None:
    """Append to `part` what is still missing of `expected_bytes`.

    A server that can't resume starts it over. Raises Unavailable when the source breaks off or
    can't be reached (what came is kept), NotFound when it has no such file, DataLoss when it has
    another number of bytes, ResourceExhausted when the disk is full, Cancelled.
    """
    have = part.stat().st_size if part.exists() else 0
    if have == expected_bytes:
        return
    path = local_path(source)
    if path is None:
        _fetch_http(source, part, have, expected_bytes, progress, cancelled)
    else:
        _fetch_file(path, part, expected_bytes, progress, cancelled)


def _fetch_file(path: Path, part: Path, expected_bytes: int, progress: Progress, cancelled: Cancel) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from error
    with file:
        _check_length(str(path), os.fstat(file.fileno()).st_size, expected_bytes)
        _copy(str(path), file, part, 0, expected_bytes, progress, cancelled)


def _fetch_http(
    url: str, part: Path, have: int, expected_bytes: int, progress: Progress, cancelled: Cancel
) -> None:
    # Imported here: 20 ms and 3 MiB for something that happens once in the life of a machine.
    import http.client
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "smol"})  # noqa: S310  # See check_source.
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            resumed = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
            if response.status != http.HTTPStatus.PARTIAL_CONTENT or resumed is None or int(resumed[1]) != have:
                have = 0
            length = response.headers.get("Content-Length")
            if length is not None and length.isdigit():
                _check_length(url, have + int(length), expected_bytes)
            _copy(url, response, part, have, expected_bytes, progress, cancelled)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
                raise Unavailable(f"{url} has fewer than {have} bytes; starting over") from None
            kind = NotFound if error.code in (403, 404, 410) else Unavailable
            raise kind(f"{url} answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"{url} can't be read: {reason}") from error


def _check_length(source: str, found_bytes: int, expected_bytes: int) -> None:
    if found_bytes != expected_bytes:
        raise DataLoss(
            f"{source} is another file: {found_bytes} bytes instead of {expected_bytes}; it was not taken"
        )


def _copy(
    source: str,
    stream: IO[bytes],
    part: Path,
    have: int,
    expected_bytes: int,
    progress: Progress,
    cancelled: Cancel,
) -> None:
    """Write the stream behind the first `have` bytes, and refuse the first byte too many."""
    try:
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while chunk := _read(source, stream):
                have += len(chunk)
                if have > expected_bytes:
                    raise DataLoss(f"{source} is another file: more than {expected_bytes} bytes; it was not taken")
                file.write(chunk)
                progress(have, expected_bytes)
                if cancelled():
                    raise Cancelled(f"fetching {source} was given up; what came is kept")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResourceExhausted(f"{part} can't be written: {error.strerror or error}; free some disk") from error
    if have < expected_bytes:
        raise Unavailable(f"{source} broke off after {have} of {expected_bytes} bytes; call again to go on")


def _read(source: str, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise Unavailable(f"{source} broke off: {error}; call again to go on from there") from error
