"""Providers behind Smol: retries, the breaker, bounds, and secrets that stay here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from smol.errors import FailedPrecondition, ResourceExhausted, SmolError, Unavailable
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import Upstream
from smol.units.openai.bounds import Breaker
from smol.units.openai.upstreams import Provider, Upstreams

Answers = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smol.units.openai.upstreams._FIRST_PAUSE_SECONDS", 0.0)


def provider(directory: Path, answers: Answers, **settings: Any) -> Provider:
    upstream = Upstream(url="http://far.example/v1/", models=("far-*",), **settings)
    return Provider("far", upstream, directory, httpx2.MockTransport(answers))


async def ask(far: Provider) -> bytes:
    async with far.ask("chat/completions", b"{}") as reply:
        return await reply.whole()


def asked(far: Provider) -> bytes:
    async def once() -> bytes:
        try:
            return await ask(far)
        finally:
            await far.close()

    return asyncio.run(once())


def test_the_model_chooses_the_provider(tmp_path: Path) -> None:
    settings = {
        "one": Upstream(url="http://one", models=("a-*", "b")),
        "two": Upstream(url="http://two", models=("*",)),
    }
    upstreams = Upstreams(settings, tmp_path)
    found = [upstreams.find(model) for model in ("a-1", "b", "c")]
    assert [each.name for each in found if each is not None] == ["one", "one", "two"]
    assert upstreams.models() == [("b", "one")]
    assert Upstreams({}, tmp_path).find("a") is None


def test_a_failure_before_the_first_byte_is_tried_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        if len(seen) == 1:
            raise httpx2.ConnectError("no route")
        return httpx2.Response(503 if len(seen) == 2 else 200, content=b"there")

    assert asked(provider(tmp_path, answers)) == b"there"
    assert seen == ["http://far.example/v1/chat/completions"] * 3


def test_there_is_an_end_to_trying(tmp_path: Path) -> None:
    seen: list[int] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        seen.append(1)
        return httpx2.Response(500)

    with pytest.raises(Refusal) as caught:
        asked(provider(tmp_path, answers, retries=1))
    assert caught.value.status == 502
    assert len(seen) == 2


def test_what_was_asked_wrongly_is_not_tried_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        seen.append(1)
        return httpx2.Response(
            422, json={"error": {"message": "no such thing", "code": "bad", "param": "messages"}}
        )

    with pytest.raises(Refusal) as caught:
        asked(provider(tmp_path, answers))
    assert (caught.value.status, caught.value.name, caught.value.param) == (422, "bad", "messages")
    assert len(seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_no_error_ever_holds_the_key(tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "very-secret")

    def answers(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["authorization"] == "Bearer very-secret"
        return httpx2.Response(status, json={"error": {"message": "very-secret is wrong"}})

    with pytest.raises(SmolError) as caught:
        asked(provider(tmp_path, answers, key_variable="FAR_KEY", retries=0))
    assert "very-secret" not in str(caught.value)


def test_a_key_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="NOT_SET_ANYWHERE"):
        asked(provider(tmp_path, lambda request: httpx2.Response(200), key_variable="NOT_SET_ANYWHERE"))


def test_a_provider_that_asks_to_wait_is_quoted(tmp_path: Path) -> None:
    def answers(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, headers={"retry-after": "7"})

    with pytest.raises(ResourceExhausted) as caught:
        asked(provider(tmp_path, answers, retries=0))
    assert caught.value.details["retry_after_ms"] == 7000


def test_the_breaker_opens_waits_and_closes() -> None:
    breaker = Breaker(failures=2, open_seconds=10)
    breaker.failed(0)
    breaker.check(0)
    breaker.failed(0)
    with pytest.raises(Unavailable) as caught:
        breaker.check(4)
    assert caught.value.details["retry_after_ms"] == 6001
    breaker.check(10)
    breaker.failed(10)
    with pytest.raises(Unavailable):
        breaker.check(11)
    breaker.succeeded()
    breaker.check(11)


def test_tokens_of_a_day_are_counted_and_bounded_across_restarts(tmp_path: Path) -> None:
    def answers(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"usage": {"total_tokens": 60}})

    assert asked(provider(tmp_path, answers, tokens_per_day=100))
    assert asked(provider(tmp_path, answers, tokens_per_day=100))
    with pytest.raises(ResourceExhausted, match="tokens_per_day"):
        asked(provider(tmp_path, answers, tokens_per_day=100))


def test_tokens_of_anthropics_streams_are_counted_too(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 40, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 10_000}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 30}},
    ]

    def answers(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["anthropic-version"]
        return httpx2.Response(
            200, content=b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in events)
        )

    async def tokens() -> int:
        far = provider(tmp_path, answers)
        async with far.ask("messages", b"{}") as reply:
            assert [event["type"] async for event in reply.events()] == [event["type"] for event in events]
        await far.close()
        return reply.tokens

    assert asyncio.run(tokens()) == 70


@pytest.mark.parametrize("event", [{"type": "error", "message": "no"}, {"error": {"message": "no"}}, "[1]"])
def test_a_stream_that_tells_of_a_failure_fails(tmp_path: Path, event: Any) -> None:
    async def read() -> None:
        far = provider(tmp_path, lambda request: httpx2.Response(200, content=f"data: {json.dumps(event)}\n\n"))
        try:
            async with far.ask("responses", b"{}") as reply:
                _ = [each async for each in reply.events()]
        finally:
            await far.close()

    with pytest.raises(Unavailable, match="stream failed"):
        asyncio.run(read())


def test_requests_at_once_are_bounded(tmp_path: Path) -> None:
    async def two() -> None:
        far = provider(tmp_path, lambda request: httpx2.Response(200, content=b"x"), concurrency=1)
        async with far.ask("chat/completions", b"{}"):
            with pytest.raises(ResourceExhausted, match="run already"):
                await ask(far)
        assert await ask(far) == b"x"
        await far.close()

    asyncio.run(two())
