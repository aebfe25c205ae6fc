"""Errors at the edge of HTTP: one table of statuses, and three ways to write an error down.

RFC 9457 problem details for our own paths, OpenAI's envelope and Anthropic's for theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from smol.errors import SmolError

__all__ = ["HTTP_STATUS", "Refusal", "Style", "document", "retry_headers", "status_of", "style_of"]

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "DATA_LOSS": 500,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status by status code."""

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Body too large",
    414: "URL too long",
    415: "Unsupported media type",
    421: "Misdirected request",
    429: "Too many requests",
    431: "Headers too large",
    499: "Client went away",
    500: "Internal error",
    501: "Not implemented",
    502: "Bad gateway",
    503: "Unavailable",
    504: "Deadline exceeded",
    507: "No room left",
}
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Style(Enum):
    """How an error is written down."""

    PROBLEM = "application/problem+json"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Refusal(SmolError):
    """A request that HTTP itself answers: wrong path, method, size, type. It never crosses the wire.

    status: of HTTP. name: OpenAI's `code`, as `model_not_found`. param: the argument that is wrong.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "INVALID_ARGUMENT",
        name: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = headers or {}
        self.status_code = code
        self.name = name
        self.param = param


def style_of(path: str) -> Style:
    """Which clients expect which envelope, by path."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Style.ANTHROPIC
    if path.startswith("/v1/") and path != "/v1/units" and not path.startswith("/v1/units/"):
        return Style.OPENAI
    return Style.PROBLEM


def status_of(error: SmolError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, Refusal) else HTTP_STATUS[error.code]


def retry_headers(error: SmolError) -> dict[str, str]:
    """`Retry-After`, in whole seconds and in the milliseconds that OpenAI's clients also read."""
    wait_ms = error.details.get("retry_after_ms")
    if not isinstance(wait_ms, int | float):
        return {}
    return {"retry-after": str(max(1, -(-int(wait_ms) // 1000))), "retry-after-ms": str(int(wait_ms))}


def document(error: SmolError, style: Style, request_id: str) -> dict[str, Any]:
    """The error as JSON."""
    status = status_of(error)
    code = error.status_code if isinstance(error, Refusal) else error.code
    if style is Style.OPENAI:
        kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        name = error.name if isinstance(error, Refusal) else None
        param = error.param if isinstance(error, Refusal) else None
        return {"error": {"message": error.message, "type": kind, "param": param, "code": name or code.lower()}}
    if style is Style.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
    problem: dict[str, Any] = {
        "type": f"urn:smol:error:{code.lower()}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": error.message,
        "code": code,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    details = {key: value for key, value in error.details.items() if key not in problem}
    problem.update(msgspec.to_builtins(details, enc_hook=str))
    return problem
