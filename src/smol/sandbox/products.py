"""Files that the code left in its directory, taken through the directory's descriptor once all of it is dead.

Only regular files with one name, over no link and on the same mount; numbers, sizes and depth are bounded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from smol.sandbox.kernel import open_beneath
from smol.sandbox.records import Limits, Product

__all__ = ["collect", "holds_any"]

_DEPTH = 8
_ENTRIES = 4096
_LEFT_OUT = 32


def holds_any(directory: int) -> bool:
    """Whether there is anything to collect."""
    try:
        descriptor = open_beneath(directory, ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is not None
    finally:
        os.close(descriptor)


def collect(directory: int, given: Mapping[str, bytes], limits: Limits) -> tuple[list[Product], list[str]]:
    """The files, but for those of `given` that are as they were; and why others were left out."""
    products: list[Product] = []
    left_out: list[str] = []
    room = limits.artifact_bytes
    for path, reason in _walk(directory):
        if reason:
            left_out.append(f"{path}: {reason}")
        elif len(products) >= limits.artifacts:
            left_out.append(f"{path}: more than {limits.artifacts} files")
        else:
            data, reason = _take(directory, path, room)
            if reason:
                left_out.append(f"{path}: {reason}")
            elif given.get(path) != data:
                products.append(Product(path, data))
                room -= len(data)
        if len(left_out) >= _LEFT_OUT:
            left_out.append("and more")
            break
    return products, left_out


def _walk(directory: int) -> Iterator[tuple[str, str]]:
    """Paths of what is no directory, sorted, breadth first, each with the reason to leave it out, or none."""
    folders, seen = [("", 0)], 0
    while folders:
        folder, depth = folders.pop(0)
        try:
            descriptor = open_beneath(directory, folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
        except OSError as error:
            yield _plain(folder), error.strerror or "can't be read"
            continue
        try:
            with os.scandir(descriptor) as entries:
                found = []
                for entry in entries:
                    seen += 1
                    if seen > _ENTRIES:
                        yield _plain(folder) or ".", f"more than {_ENTRIES} entries"
                        folders.clear()
                        break
                    found.append((entry.name, entry.is_dir(follow_symlinks=False)))
        finally:
            os.close(descriptor)
        for name, is_folder in sorted(found):
            path = f"{folder}/{name}" if folder else name
            if not folder and name == ".tmp":
                continue
            if _plain(path) != path:
                yield _plain(path), "its name is not printable text"
            elif is_folder and depth + 1 >= _DEPTH:
                yield path, f"deeper than {_DEPTH} folders"
            elif is_folder:
                folders.append((path, depth + 1))
            else:
                yield path, ""


def _take(directory: int, path: str, room: int) -> tuple[bytes, str]:
    try:
        descriptor = open_beneath(directory, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        return b"", "is a link" if error.errno == 40 else error.strerror or "can't be read"
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b"", "is no regular file"
        if found.st_nlink != 1:
            return b"", "has more than one name"
        if found.st_size > room:
            return b"", f"{found.st_size} bytes are beyond the limit of all"
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(room + 1)
        return (data, "") if len(data) <= room else (b"", "grew while it was read")
    finally:
        os.close(descriptor)


def _plain(text: str) -> str:
    return "".join(
        character if character.isprintable() and not "\ud800" <= character <= "\udfff" else "?"
        for character in text
    )
