"""Types that every layer shares. Holds no behaviour beyond reading a file into an attachment."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Attachment", "Json"]

Json: TypeAlias = Any
"""A value that JSON can carry: None, bool, int, float, str, list and dict of these."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Raw bytes that travel beside a message, never inside its JSON.

    data: the bytes; a memoryview of a received frame is not copied.
    media_type: IANA media type, for example `image/jpeg`.
    name: a file name without directories, or None.
    """

    data: bytes | bytearray | memoryview
    media_type: str = "application/octet-stream"
    name: str | None = None

    def __len__(self) -> int:
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)

    @classmethod
    def from_file(cls, path: str | Path) -> Attachment:
        """Read a file; the media type is guessed from the name. Raises OSError."""
        path = Path(path)
        guess = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(path.read_bytes(), guess, path.name)
