"""The door: what every request passes, whatever it wants.

An id and a count for each, Host and Origin against pages of other sites, keys and rates, and one place
where errors are written down. Pure ASGI.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from smol.errors import PermissionDenied, ResourceExhausted, SmolError, Unauthenticated
from smol.units.gateway.keys import Key, KeyFile
from smol.units.gateway.metrics import Metrics
from smol.units.gateway.problems import Refusal, Style, document, retry_headers, status_of, style_of
from smol.units.gateway.requests import Bodies, ClientGone, Receive, Scope, Send, Visit, send_bytes

__all__ = ["Door"]

_log = logging.getLogger("smol.units.gateway")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/", "/docs", "/favicon.ico"})
"""What needs no key: it tells nothing but that Smol is here. Files of the web page are open too."""
OPEN_PREFIX = "/web/"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
_ALLOWED_HEADERS = (
    b"authorization, content-type, idempotency-key, x-api-key, x-deadline-seconds, x-request-id, traceparent, "
    b"anthropic-version, openai-organization, openai-project, x-stainless-*"
)


class Door:
    """Lets requests in to `app`, or turns them away.

    hosts: names that browsers may use beside localhost and plain addresses. origins: of other sites.
    """

    def __init__(
        self,
        app: Any,
        *,
        keys: KeyFile,
        metrics: Metrics,
        bodies: Bodies,
        hosts: tuple[str, ...] = (),
        origins: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._bodies = bodies
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.encode() for origin in origins)
        self._rates: dict[str, _Rate] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(reversed(scope["headers"]))
        visit = Visit(
            headers,
            Visit.requested_id(headers) or secrets.token_hex(8),
            style_of(scope["path"]),
            bool(scope.get("state", {}).get("unix")),
        )
        scope["smol"] = visit
        started = 0
        origin = headers.get(b"origin", b"")
        granted = origin if origin in self._origins else b""

        async def answer(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message["status"]
                fields = [*message["headers"], *_HEADERS, (b"x-request-id", visit.request_id.encode())]
                if granted:
                    fields += [(b"access-control-allow-origin", granted), (b"vary", b"origin")]
                    fields += [(b"access-control-expose-headers", b"x-request-id, retry-after")]
                message["headers"] = fields
            await send(message)

        self._metrics.in_flight.inc()
        try:
            self._check_site(visit, origin, granted)
            if granted and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _allow(answer)
                return
            self._identify(visit, scope["path"])
            await self._app(scope, receive, answer)
        except ClientGone:
            started = started or 499
        except SmolError as error:
            if started:
                raise
            await send_error(answer, visit, error)
        except Exception:
            _log.exception("a request failed (%s)", visit.request_id)
            if started:
                raise
            fault = Refusal(500, f"a fault of Smol, logged as {visit.request_id}", code="INTERNAL")
            await send_error(answer, visit, fault)
        finally:
            self._bodies.release(visit)
            self._metrics.in_flight.dec()
            self._metrics.requests.labels(str(started or 499)).inc()

    def _check_site(self, visit: Visit, origin: bytes, granted: bytes) -> None:
        """Raises Refusal for a name that is not ours (DNS rebinding) and for pages of other sites."""
        if visit.unix:
            return
        host = visit.headers.get(b"host", b"").decode("latin-1").lower()
        name = _name(host)
        if name not in self._hosts and name != "localhost" and not _is_address(name):
            raise Refusal(
                421, f"this is not {name!r}: add it to `hosts` of [gateway] if it is a name of this machine",
                code="PERMISSION_DENIED",
            )  # fmt: skip
        if origin and not granted and urlsplit(origin.decode("latin-1")).netloc.lower() != host:
            raise PermissionDenied(
                "pages of other sites may not call this: add them to `origins` of [gateway] if they may"
            )

    def _identify(self, visit: Visit, path: str) -> None:
        """Find out whose key it is. Raises Unauthenticated, or ResourceExhausted for one that asks too often."""
        if visit.unix or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return
        if not self._keys.all():
            return
        key = self._keys.find(_secret(visit.headers))
        if key is None:
            raise Unauthenticated("send a key that this Smol knows, as 'Authorization: Bearer smol_…'")
        visit.key = key
        if key.per_minute:
            rate = self._rates.get(key.sha256)
            if rate is None or rate.per_minute != key.per_minute:
                rate = self._rates[key.sha256] = _Rate(key.per_minute, time.monotonic())
            rate.take(key, time.monotonic())


class _Rate:
    """A bucket of requests that fills at a steady pace."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def take(self, key: Key, now: float) -> None:
        """Raises ResourceExhausted when it is empty."""
        self._left = min(self.per_minute, self._left + (now - self._at) * self.per_minute / 60)
        self._at = now
        if self._left < 1:
            wait_ms = int((1 - self._left) * 60_000 / self.per_minute) + 1
            raise ResourceExhausted(
                f"the key {key.name!r} may ask {self.per_minute} times a minute", retry_after_ms=wait_ms
            )
        self._left -= 1


def _secret(headers: Mapping[bytes, bytes]) -> str:
    """What was sent as a key, by OpenAI's custom or by Anthropic's."""
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    given = value.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return given.decode("latin-1")


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _allow(send: Send) -> None:
    """Answer a preflight of a site that may call us."""
    fields = [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", _ALLOWED_HEADERS),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": fields})
    await send({"type": "http.response.body", "body": b""})


async def send_error(send: Send, visit: Visit, error: SmolError) -> None:
    """Write an error down as this client expects it."""
    headers = retry_headers(error)
    if isinstance(error, Refusal):
        headers |= error.headers
    status = status_of(error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    kind = visit.style.value if visit.style is Style.PROBLEM else "application/json"
    body = msgspec.json.encode(document(error, visit.style, visit.request_id), enc_hook=str)
    await send_bytes(send, status, body, kind, headers)
