"""The errors of Smol: one root, one class per thing a caller would do differently.

    SmolError                code, message, details, retryable
    ├── InvalidArgument      INVALID_ARGUMENT      change the argument
    ├── OutOfRange           OUT_OF_RANGE          stop iterating; the end was passed
    ├── NotFound             NOT_FOUND             use another name
    ├── AlreadyExists        ALREADY_EXISTS        use another name, or the one that is there
    ├── FailedPrecondition   FAILED_PRECONDITION   change the system's state first
    ├── Aborted              ABORTED               read again, then try again
    ├── PermissionDenied     PERMISSION_DENIED     ask whoever runs this Smol
    ├── Unauthenticated      UNAUTHENTICATED       send a key
    ├── ResourceExhausted    RESOURCE_EXHAUSTED    wait `retry_after_ms`, or ask for less
    ├── Cancelled            CANCELLED             nothing: the caller went away
    ├── DeadlineExceeded     DEADLINE_EXCEEDED     allow more time
    ├── Unimplemented        UNIMPLEMENTED         use another version
    ├── Unavailable          UNAVAILABLE           try again in a moment
    ├── DataLoss             DATA_LOSS             restore from a copy
    └── Internal             INTERNAL              report a bug

The code is gRPC's canonical name and crosses the wire; tracebacks do not.
`UNKNOWN`, which a foreign peer may send, becomes `Internal`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "SmolError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "by_code",
    "nearest",
]


class SmolError(Exception):
    """Root of all errors that a caller of Smol can meet.

    message: what was wrong, with which value, and what to do.
    details: JSON-compatible facts a program may act on (for example `retry_after_ms`).
    """

    code: ClassVar[str] = "UNKNOWN"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    def __str__(self) -> str:
        return self.message


class InvalidArgument(SmolError):
    code = "INVALID_ARGUMENT"


class OutOfRange(SmolError):
    code = "OUT_OF_RANGE"


class NotFound(SmolError):
    code = "NOT_FOUND"


class AlreadyExists(SmolError):
    code = "ALREADY_EXISTS"


class FailedPrecondition(SmolError):
    code = "FAILED_PRECONDITION"


class Aborted(SmolError):
    code = "ABORTED"
    retryable = True


class PermissionDenied(SmolError):
    code = "PERMISSION_DENIED"


class Unauthenticated(SmolError):
    code = "UNAUTHENTICATED"


class ResourceExhausted(SmolError):
    code = "RESOURCE_EXHAUSTED"
    retryable = True


class Cancelled(SmolError):
    code = "CANCELLED"


class DeadlineExceeded(SmolError):
    code = "DEADLINE_EXCEEDED"


class Unimplemented(SmolError):
    code = "UNIMPLEMENTED"


class Unavailable(SmolError):
    code = "UNAVAILABLE"
    retryable = True


class DataLoss(SmolError):
    code = "DATA_LOSS"


class Internal(SmolError):
    code = "INTERNAL"


CODES: Mapping[str, type[SmolError]] = {cls.code: cls for cls in SmolError.__subclasses__()}


def by_code(code: str, message: str, details: Mapping[str, Any] | None = None) -> SmolError:
    """The error a peer sent as `code`; an unknown code becomes `Internal`."""
    error = CODES.get(code, Internal)(message)
    error.details = details or {}
    return error


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint to append to a message: ` (did you mean 'x'?)`, or nothing when no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
