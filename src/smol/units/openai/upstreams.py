"""Providers of language models behind Smol: chosen by the model's name, streamed through as they answer.

Retries before the first byte only, and a bound on requests at once. What a provider says about its key is never
handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from smol.errors import DeadlineExceeded, FailedPrecondition, ResourceExhausted, SmolError, Unavailable
from smol.sizes import MIB
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import Upstream
from smol.units.openai.bounds import Breaker, Spending

__all__ = ["Provider", "Reply", "Upstreams"]

_log = logging.getLogger("smol.units.gateway")
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_LARGEST_ANSWER_BYTES = 32 * MIB
_TOTAL = re.compile(rb'"total_tokens"\s*:\s*(\d+)')
_PART = re.compile(rb'"(input|output)_tokens"\s*:\s*(\d+)')
"""Anthropic's answers have no total."""
_ANTHROPIC_VERSION = "2023-06-01"
"""Anthropic refuses requests that name none; others read over it."""
_TAIL_BYTES = 128


class Provider:
    """One provider. transport: instead of the network, for tests."""

    def __init__(self, name: str, settings: Upstream, directory: Path, transport: Any = None) -> None:
        self.name = name
        self.settings = settings
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None
        self._turns = asyncio.Semaphore(settings.concurrency)
        self._breaker = Breaker()
        self._spending = Spending(directory / f"{name}.json", settings.tokens_per_day)

    def serves(self, model: str) -> bool:
        """Whether a model is there."""
        return any(fnmatchcase(model, pattern) for pattern in self.settings.models)

    @contextlib.asynccontextmanager
    async def ask(self, path: str, body: bytes, beta: str = "") -> AsyncGenerator[Reply]:
        """Send a request on. Raises SmolError for what the provider refuses, or when it can't be had.

        beta: what Anthropic's clients ask for by the header `anthropic-beta`.
        """
        self._spending.check()
        if self._turns.locked():
            raise ResourceExhausted(
                f"{self.settings.concurrency} requests to provider {self.name!r} run already", retry_after_ms=1000
            )
        async with self._turns:
            response = await self._send(path, body, beta)
            reply = Reply(response)
            try:
                if response.status_code >= 400:
                    raise await self._refused(response)
                yield reply
            except httpx2.TimeoutException:
                raise DeadlineExceeded(f"provider {self.name!r} stopped answering") from None
            except httpx2.HTTPError:
                raise Unavailable(f"provider {self.name!r} broke off its answer") from None
            finally:
                self._spending.add(reply.tokens)
                await response.aclose()

    async def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, path: str, body: bytes, beta: str) -> httpx2.Response:
        client = self._connected()
        headers = {**self._headers(), **({"anthropic-beta": beta} if beta else {})}
        address = f"{self.settings.url.rstrip('/')}/{path}"
        pause = _FIRST_PAUSE_SECONDS
        for left in range(self.settings.retries, -1, -1):
            self._breaker.check(time.monotonic())
            try:
                request = client.build_request("POST", address, content=body, headers=headers)
                response = await client.send(request, stream=True)
            except httpx2.TransportError as error:
                self._breaker.failed(time.monotonic())
                if left:
                    await asyncio.sleep(pause)
                    pause *= 2
                    continue
                if isinstance(error, httpx2.TimeoutException):
                    raise DeadlineExceeded(f"provider {self.name!r} did not answer in time") from None
                raise Unavailable(f"provider {self.name!r} can't be reached: {type(error).__name__}") from None
            if response.status_code >= 500:
                self._breaker.failed(time.monotonic())
            else:
                self._breaker.succeeded()
            if response.status_code not in _AGAIN or not left:
                return response
            await response.aclose()
            await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, max(pause, (_retry_after_ms(response) or 0) / 1000)))
            pause *= 2
        raise Unavailable(f"provider {self.name!r} was not asked")

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            seconds = httpx2.Timeout(self.settings.answer_seconds, connect=self.settings.connect_seconds)
            self._client = httpx2.AsyncClient(timeout=seconds, transport=self._transport, trust_env=False)
        return self._client

    def _headers(self) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "anthropic-version": _ANTHROPIC_VERSION,
        }
        key = self._key()
        return {**headers, "authorization": f"Bearer {key}", "x-api-key": key} if key else headers

    def _key(self) -> str:
        if self.settings.key_variable:
            key = os.environ.get(self.settings.key_variable, "")
            if not key:
                raise FailedPrecondition(f"the variable {self.settings.key_variable} has no key for {self.name!r}")
            return key
        if self.settings.key_file is not None:
            try:
                return self.settings.key_file.read_text().strip()
            except OSError as error:
                raise FailedPrecondition(f"the key of {self.name!r} can't be read: {error.strerror}") from None
        return ""

    async def _refused(self, response: httpx2.Response) -> SmolError:
        """What a provider's error means for whoever asks us."""
        status = response.status_code
        if status in (401, 403):
            _log.warning("provider %s refuses its key (status %d)", self.name, status)
            return Refusal(502, f"provider {self.name!r} refuses the key that Smol has for it", code="UNAVAILABLE")
        if status == 429:
            wait_ms = _retry_after_ms(response) or 1000
            return ResourceExhausted(f"provider {self.name!r} asks to come back later", retry_after_ms=wait_ms)
        if status >= 500:
            return Refusal(502, f"provider {self.name!r} failed with status {status}", code="UNAVAILABLE")
        said = _error_of((await response.aread())[:65_536])
        text = str(said.get("message") or f"provider {self.name!r} refused with status {status}")
        key = self._key()
        if key:
            text = text.replace(key, "…")
        name, param = said.get("code"), said.get("param")
        return Refusal(
            status,
            text,
            name=name if isinstance(name, str) else None,
            param=param if isinstance(param, str) else None,
        )


class Reply:
    """A provider's answer, as it comes."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.media_type = response.headers.get("content-type", "application/json")
        self._parts = {b"input": 0, b"output": 0}
        self._total = 0

    @property
    def tokens(self) -> int:
        """Used for it, as far as the provider says."""
        return self._total or sum(self._parts.values())

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Bytes, none held back."""
        tail = b""
        async for chunk in self._response.aiter_bytes():
            self._count(tail + chunk)
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk

    async def whole(self) -> bytes:
        """All of it. Raises Unavailable for more than is sensible."""
        data = bytearray()
        async for chunk in self.chunks():
            data += chunk
            if len(data) > _LARGEST_ANSWER_BYTES:
                raise Unavailable("the provider's answer is too large")
        return bytes(data)

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """What server-sent events carry. Raises Unavailable for what is none, or tells of a failure."""
        buffer = bytearray()
        async for chunk in self.chunks():
            buffer += chunk.replace(b"\r", b"")
            if len(buffer) > _LARGEST_ANSWER_BYTES:
                raise Unavailable("the provider's answer is too large")
            *events, rest = buffer.split(b"\n\n")
            buffer = rest
            for event in events:
                data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
                if not data or data == b"[DONE]":
                    continue
                try:
                    found = msgspec.json.decode(data)
                except (msgspec.DecodeError, RecursionError):
                    found = None
                if not isinstance(found, dict) or "error" in found or found.get("type") == "error":
                    raise Unavailable("the provider's stream failed")
                yield found

    def _count(self, data: bytes) -> None:
        found = _TOTAL.findall(data)
        if found:
            self._total = int(found[-1])
        self._parts.update((name, int(number)) for name, number in _PART.findall(data))


class Upstreams:
    """All providers, in the order of the settings."""

    def __init__(self, settings: Mapping[str, Upstream], directory: Path, transport: Any = None) -> None:
        self._providers = [Provider(name, each, directory, transport) for name, each in settings.items()]

    def find(self, model: str) -> Provider | None:
        """The first provider that has a model."""
        return next((provider for provider in self._providers if provider.serves(model)), None)

    def models(self) -> list[tuple[str, str]]:
        """Models that are named in full, each with its provider."""
        named = ((model, each.name) for each in self._providers for model in each.settings.models)
        return [(model, name) for model, name in named if not any(sign in model for sign in "*?[")]

    async def close(self) -> None:
        """Hang up everywhere."""
        for provider in self._providers:
            await provider.close()


def _retry_after_ms(response: httpx2.Response) -> int | None:
    for header, factor in (("retry-after-ms", 1), ("retry-after", 1000)):
        with contextlib.suppress(ValueError, KeyError):
            return int(float(response.headers[header]) * factor)
    return None


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}
