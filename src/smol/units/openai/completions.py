"""`/v1/completions`, the ancestor of chats: its requests and answers, whole and in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

import msgspec

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.chat import Copies, Penalty, Positive, Share, StreamOptions, usage_of
from smol.units.openai.conversation import Answer, Ask, Turn, head_of, pieces
from smol.units.openai.reading import read_stop, refuse_given

__all__ = ["CompletionRequest", "ask_of", "chunks", "completion"]


class CompletionRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's parameters."""

    model: str
    prompt: str | list[Any] = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Copies | None = 1
    best_of: int | None = None
    echo: bool | None = False
    stop: str | list[str] | None = None
    max_tokens: Positive | None = None
    seed: int | None = None
    temperature: Share | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = None
    suffix: str | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None


def ask_of(request: CompletionRequest) -> Ask:
    """What a request asks for. Raises Refusal 400."""
    refuse_given({name: getattr(request, name) for name in ("suffix", "logprobs", "logit_bias", "echo")})
    if (request.best_of or 1) > 1:
        raise Refusal(400, "best_of is not supported by this model", name="unsupported_parameter", param="best_of")
    prompt = request.prompt[0] if isinstance(request.prompt, list) and len(request.prompt) == 1 else request.prompt
    if not isinstance(prompt, str):
        raise Refusal(400, "prompt must be one text; tokens and several prompts are not supported", param="prompt")
    turn = Turn(role="user", text=prompt)
    ask = Ask(turns=[turn], stop=read_stop(request.stop), most_tokens=request.max_tokens or 4096)
    ask.check()
    return ask


def completion(ask: Ask, answer: Answer, model: str, copies: int) -> dict[str, Json]:
    """A whole answer."""
    choice = {"text": answer.text, "logprobs": None, "finish_reason": "length" if answer.cut else "stop"}
    return {
        **_head(model),
        "choices": [{"index": index, **choice} for index in range(copies)],
        "usage": usage_of(ask, answer, copies),
    }


async def chunks(
    ask: Ask, work: Callable[[], Awaitable[Answer]], model: str, copies: int, include_usage: bool
) -> AsyncGenerator[dict[str, Json]]:
    """An answer in chunks."""
    base = _head(model)
    usage: dict[str, Json] = {"usage": None} if include_usage else {}
    answer = await work()
    for index in range(copies):
        for piece in pieces(answer.text):
            choice = {"index": index, "text": piece, "logprobs": None, "finish_reason": None}
            yield {**base, "choices": [choice], **usage}
        finish = "length" if answer.cut else "stop"
        yield {
            **base,
            "choices": [{"index": index, "text": "", "logprobs": None, "finish_reason": finish}],
            **usage,
        }
    if include_usage:
        yield {**base, "choices": [], "usage": usage_of(ask, answer, copies)}


def _head(model: str) -> dict[str, Json]:
    return head_of("cmpl-", "text_completion", model)
