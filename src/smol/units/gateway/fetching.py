"""Pictures at addresses that a request names: fetched, but from nowhere that the settings do not allow.

A server that fetches what strangers name is asked to reach what only it can reach. So each address is read by one
strict reader, its name resolved once, and the very address that was checked is connected to; each redirect is an
address like the first. No cookies, no proxies, no compression. Providers fetch for themselves: that is not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urljoin

import httpcore2
import msgspec

from smol import __version__
from smol.sandbox.addresses import Resolve, admitted_addresses, look_up
from smol.sandbox.reach import Reach, read_authority
from smol.sizes import format_bytes
from smol.types import Attachment
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import FetchSettings

__all__ = ["MOST_PICTURES", "Fetcher"]

MOST_PICTURES = 16
"""Of one request."""
_URL = re.compile(r"(https?)://([^/?#\\]+)([/?][!-\[\]-~]*)?", re.IGNORECASE)
_LONGEST_URL = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SCHEME_PORTS = {"http": 80, "https": 443}
_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
_MAGIC_BYTES = 12
_BROKEN = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)


class _Failed(Exception):
    """Why a picture can't be had, for whoever named it."""


class _Target(msgspec.Struct, frozen=True):
    """An address that may be asked for. host: plain. path: with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _SCHEME_PORTS[self.scheme] else f"{host}:{self.port}"


class Fetcher:
    """Fetches pictures.

    private: addresses and ports that may be connected to although they are not public; resolve: of names; trust:
    authorities for TLS. Settings can't give them.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        private: tuple[tuple[str, int], ...] = (),
        resolve: Resolve = look_up,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._reach = settings.reach(private)
        self._resolve = resolve
        self._trust = trust

    async def images(self, wanted: Sequence[tuple[str, str]], hold: Callable[[int], None]) -> list[Attachment]:
        """Pictures in order. wanted: addresses, each with the parameter that names it. Raises Refusal 400.

        hold: told of each number of bytes before they are kept; may raise.
        """
        if len(wanted) > MOST_PICTURES:
            raise _refusal(f"at most {MOST_PICTURES} pictures of a request are fetched", wanted[MOST_PICTURES][1])
        found: list[Attachment] = []
        try:
            async with asyncio.timeout(self._settings.seconds):
                for url, _ in wanted:
                    found.append(await self._image(url, hold))
            return found
        except _Failed as error:
            reason = str(error)
        except TimeoutError:
            reason = f"it did not come within {self._settings.seconds:g} s (seconds of [gateway.fetch])"
        except _BROKEN as error:
            reason = f"its server can't be talked to ({type(error).__name__}: {error})"
        raise _refusal(reason, wanted[len(found)][1])

    async def _image(self, url: str, hold: Callable[[int], None]) -> Attachment:
        if not self._reach.hosts:
            raise _Failed(
                "addresses are not fetched here: send a data: URI or an uploaded file, or name the hosts whose "
                "pictures may be fetched as hosts in [gateway.fetch]"
            )
        for _ in range(self._settings.redirects + 1):
            target = self._target(url)
            async with self._answer(target) as response:
                headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status not in _REDIRECTS:
                    return await self._read(target, response, headers, hold)
                url = urljoin(url, headers.get(b"location", ""))
        raise _Failed(f"it is more than {self._settings.redirects} redirects away (redirects of [gateway.fetch])")

    def _target(self, url: str) -> _Target:
        """Raises _Failed for what is no plain address, or of a host that may not be asked for."""
        found = _URL.fullmatch(url.partition("#")[0])
        authority = read_authority(found[2]) if found is not None and len(url) <= _LONGEST_URL else None
        if found is None or authority is None:
            raise _Failed("it is no address as https://host/path, without a user and in ASCII")
        scheme = found[1].lower()
        host, port = authority[0], authority[1] or _SCHEME_PORTS[scheme]
        if objection := self._reach.objection(host, port):
            raise _Failed(f"{objection} ([gateway.fetch])")
        path = found[3] or "/"
        return _Target(scheme, host, port, path if path.startswith("/") else f"/{path}")

    @contextlib.asynccontextmanager
    async def _answer(self, target: _Target) -> AsyncGenerator[httpcore2.Response]:
        """An answer of which the body is yet to come; its connection serves nothing else."""
        if target.scheme == "https" and self._trust is None:
            self._trust = httpcore2.default_ssl_context()
        backend = _CheckedNetwork(self._reach, self._resolve)
        url = httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        )
        headers = [
            (b"host", target.authority.encode()),
            (b"user-agent", f"smol/{__version__}".encode()),
            (b"accept", b"image/jpeg, image/png, image/webp, image/gif"),
            (b"accept-encoding", b"identity"),
            (b"connection", b"close"),
        ]
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=self._trust, network_backend=backend) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            yield response

    async def _read(
        self, target: _Target, response: httpcore2.Response, headers: dict[bytes, str], hold: Callable[[int], None]
    ) -> Attachment:
        if response.status != 200:
            raise _Failed(f"{target.host} answers with status {response.status}")
        if headers.get(b"content-encoding", "identity").lower() not in ("identity", ""):
            raise _Failed(f"{target.host} compresses what it was asked to send as it is")
        most = self._settings.max_picture_bytes
        announced = headers.get(b"content-length", "")
        too_large = _Failed(f"it is larger than {format_bytes(most)} (max_picture of [gateway.fetch])")
        if announced.isdecimal() and len(announced) < 20 and int(announced) > most:
            raise too_large
        data = bytearray()
        async for chunk in response.aiter_stream():
            if len(data) + len(chunk) > most:
                raise too_large
            hold(len(chunk))
            data += chunk
            if len(data) >= _MAGIC_BYTES:
                _media_type(data)  # Of what is no picture no more is read.
        return Attachment(bytes(data), _media_type(data))


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to no address but those that were checked; TLS still knows the name."""

    def __init__(self, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises _Failed when there is no address to connect to."""
        try:
            addresses = await admitted_addresses(self._reach, host, port, self._resolve)
        except OSError:
            raise _Failed(f"host {host} can't be resolved") from None
        if not addresses:
            raise _Failed(f"host {host} has no public address")
        for address in addresses:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._network.connect_tcp(address, port, self._reach.connect_seconds)
        raise _Failed(f"host {host} refuses connections")


def _media_type(data: bytes | bytearray) -> str:
    """Of a picture, by its first bytes. Raises _Failed for what is none that Smol reads."""
    for pattern, media_type in _MAGIC:
        if pattern.match(data):
            return media_type
    raise _Failed("it is no JPEG, PNG, WebP or GIF")


def _refusal(reason: str, param: str) -> Refusal:
    return Refusal(400, f"{param}: {reason}", name="invalid_image_url", param=param)
