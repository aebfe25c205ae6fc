"""What a caller sends along with code: files by attachment or from storage, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smol.errors import InvalidArgument
from smol.sdk import Attachment, Context

__all__ = ["MOST_BYTES", "gather"]

MOST_BYTES = 16 << 20
_MOST_FILES = 64


async def gather(
    context: Context, files: Sequence[Attachment] | None, stored: Mapping[str, str] | None
) -> dict[str, bytes]:
    """The files by their names. Raises InvalidArgument, and what `storage.get` does.

    stored: the name of a file to the place of its content in storage, as COLLECTION/KEY.
    """
    found: dict[str, bytes] = {}
    for file in files or ():
        _add(found, file.name or "", bytes(file.data))
    for name, place in (stored or {}).items():
        collection, slash, key = place.partition("/")
        if not slash or not collection or not key:
            raise InvalidArgument(f"stored[{name!r}]: {place!r} is not of the form COLLECTION/KEY")
        item = await context.call("storage.get", key=key, collection=collection)
        attachment = item.get("attachment")
        if attachment is not None:
            _add(found, name, bytes(attachment.data))
        elif isinstance(item.get("value"), str):
            _add(found, name, item["value"].encode())
        else:
            raise InvalidArgument(f"stored[{name!r}]: {place!r} holds neither bytes nor text")
    return found


def _add(found: dict[str, bytes], name: str, data: bytes) -> None:
    parts = name.split("/")
    if not name or len(name) > 200 or any(part in ("", ".", "..") for part in parts) or not name.isprintable():
        raise InvalidArgument(f"a file's name is a relative path such as 'data/in.csv', not {name!r}")
    if name.startswith(".tmp") or len(parts) > 4:
        raise InvalidArgument(f"a file can't be named {name!r}")
    if name in found:
        raise InvalidArgument(f"two files are named {name!r}")
    found[name] = data
    if len(found) > _MOST_FILES or sum(map(len, found.values())) > MOST_BYTES:
        raise InvalidArgument(f"at most {_MOST_FILES} files and {MOST_BYTES >> 20} MiB can be sent along")
