"""The statements behind large objects: uploads, chunks, and giving back what nobody refers to.

An object is known by the SHA-256 of its bytes, so equal uploads are kept once.
"""

from __future__ import annotations

from sqlite3 import Connection

from smol.errors import FailedPrecondition, NotFound, ResourceExhausted
from smol.units.storage.records import PIECE_BYTES, Limits

__all__ = ["abandon", "append", "begin", "chunk_at", "complete", "find_upload"]

UPLOADS_MAX = 256


def begin(connection: Connection, token: str, expires_ms: int) -> None:
    """Open an upload. Raises ResourceExhausted beyond 256 open ones."""
    count = connection.execute("SELECT count(*) FROM objects WHERE upload IS NOT NULL").fetchone()[0]
    if count >= UPLOADS_MAX:
        raise ResourceExhausted(f"{count} uploads are open, the most allowed; finish or abort one")
    connection.execute("INSERT INTO objects(upload, expires_ms) VALUES (?, ?)", (token, expires_ms))


def find_upload(connection: Connection, token: str) -> tuple[int, int]:
    """Id and size so far of an open upload. Raises NotFound."""
    row = connection.execute("SELECT id, bytes FROM objects WHERE upload = ?", (token,)).fetchone()
    if row is None:
        raise NotFound(f"there is no open upload {token!r}; it was finished, aborted, or rested too long")
    return row[0], row[1]


def append(
    connection: Connection,
    token: str,
    offset: int,
    data: bytes | bytearray | memoryview,
    expires_ms: int,
    limits: Limits,
) -> int:
    """Add a chunk; the size after it. The chunk that was added last may be sent again.

    Raises FailedPrecondition when `offset` is not where the upload stands, ResourceExhausted (quota).
    """
    object_id, size = find_upload(connection, token)
    if offset != size:
        if offset + len(data) == size and _holds(connection, object_id, offset, memoryview(data)):
            return size
        raise FailedPrecondition(f"the upload is at offset {size}, not {offset}; go on from there", offset=size)
    used = connection.execute(
        "SELECT bytes + (SELECT coalesce(sum(bytes), 0) FROM objects WHERE upload IS NOT NULL) "
        "FROM collections WHERE id = 0"
    ).fetchone()[0]
    if used + len(data) > limits.max_bytes:
        raise ResourceExhausted(
            f"the store and its uploads would hold {used + len(data)} bytes, {limits.max_bytes} are allowed",
            limit=limits.max_bytes,
            needed=used + len(data),
            unit="bytes",
        )
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        connection.execute(
            "INSERT INTO chunks(object, start, data) VALUES (?, ?, ?)",
            (object_id, offset + start, view[start : start + PIECE_BYTES]),
        )
    connection.execute(
        "UPDATE objects SET bytes = bytes + ?, expires_ms = ? WHERE id = ?", (len(data), expires_ms, object_id)
    )
    return size + len(data)


def complete(connection: Connection, token: str, sha256: str, size_bytes: int) -> int:
    """Make an upload an object; the id of the one that has these bytes, perhaps an older one.

    Raises FailedPrecondition when the upload has grown since its hash was taken.
    """
    object_id, size = find_upload(connection, token)
    if size != size_bytes:
        raise FailedPrecondition(f"the upload went on while it was finished: {size} bytes, not {size_bytes}")
    row = connection.execute("SELECT id FROM objects WHERE sha256 = ?", (sha256,)).fetchone()
    if row is not None:
        abandon(connection, token)
        return int(row[0])
    connection.execute(
        "UPDATE objects SET upload = NULL, sha256 = ?, expires_ms = NULL WHERE id = ?", (sha256, object_id)
    )
    return object_id


def abandon(connection: Connection, token: str) -> bool:
    """Give an upload up; its chunks go with the next sweep. False when there was none."""
    changed = connection.execute(
        "UPDATE objects SET upload = NULL, expires_ms = NULL WHERE upload = ?", (token,)
    ).rowcount
    return changed > 0


def chunk_at(connection: Connection, object_id: int, offset: int) -> tuple[int, bytes] | None:
    """Start and bytes of the chunk that covers `offset`; None beyond the end, or when the object is gone."""
    row = connection.execute(
        "SELECT start, data FROM chunks WHERE object = ? AND start <= ? ORDER BY start DESC LIMIT 1",
        (object_id, offset),
    ).fetchone()
    return None if row is None or offset >= row[0] + len(row[1]) else (row[0], row[1])


def _holds(connection: Connection, object_id: int, offset: int, data: memoryview) -> bool:
    """Whether the object has the bytes `data` at `offset`, where one of its chunks starts."""
    position = 0
    while position < len(data):
        found = chunk_at(connection, object_id, offset + position)
        if found is None or found[0] != offset + position:
            return False
        piece = found[1]
        if data[position : position + len(piece)] != piece:
            return False
        position += len(piece)
    return position == len(data)
