"""Types that every layer shares. Holds no behaviour beyond reading a file into an attachment."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

__all__ = ["Attachment", "Json"]

Json: TypeAlias = Any
"""A value that JSON can carry: None, bool, int, float, str, list and dict of these."""


class Attachment:
    """Raw bytes that travel beside a message, never inside its JSON.

    Not a dataclass, since those are sent as JSON objects.

    data: the bytes; a memoryview of a received frame is not copied.
    media_type: IANA media type, for example `image/jpeg`.
    name: a file name without directories, or None.
    """

    __slots__ = ("data", "media_type", "name")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        media_type: str = "application/octet-stream",
        name: str | None = None,
    ) -> None:
        self.data = data
        self.media_type = media_type
        self.name = name

    def __len__(self) -> int:
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attachment):
            return NotImplemented
        return (self.data, self.media_type, self.name) == (other.data, other.media_type, other.name)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Attachment({len(self)} bytes, {self.media_type!r}, {self.name!r})"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Attachment:
        """Read a file; the media type is guessed from the name. Raises OSError."""
        from mimetypes import guess_type  # Costs more than all the rest of this module.

        name = os.path.basename(path)
        with open(path, "rb") as file:
            return cls(file.read(), guess_type(name)[0] or "application/octet-stream", name)
