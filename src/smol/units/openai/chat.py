"""`/v1/chat/completions`: its requests and answers, whole and in chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from smol import __version__
from smol.types import Json
from smol.units.gateway.arguments import from_data_uri
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.dialect import KIND
from smol.units.openai.conversation import Answer, Ask, Tool, ToolCall, Turn, head_of, pieces
from smol.units.openai.pictures import add_picture
from smol.units.openai.reading import (
    Pictures,
    decode_request,
    read_choice,
    read_format,
    read_stop,
    read_tool,
    refuse_given,
)

__all__ = [
    "ChatRequest",
    "Copies",
    "Penalty",
    "Positive",
    "Share",
    "StreamOptions",
    "ask_of",
    "chunks",
    "completion",
    "read_chat",
    "usage_of",
]

FINGERPRINT = f"smol-{__version__}"
"""What the answers depend on: the rules of this version."""

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2)]
Penalty: TypeAlias = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Copies: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=16)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class _Url(msgspec.Struct):
    url: str
    detail: str = "auto"


class _FileRef(msgspec.Struct):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: _Url | None = None
    file: _FileRef | None = None


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _Called(msgspec.Struct):
    id: str
    function: _CalledFunction
    type: Literal["function"] = "function"


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_Called] | None = None
    tool_call_id: str | None = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Any = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Schema(msgspec.Struct):
    name: str
    schema: Any = None
    description: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class StreamOptions(msgspec.Struct):
    """What a stream is to hold."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's parameters. Those that make no difference to a deterministic model are read and need nothing."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: Json = None
    parallel_tool_calls: bool | None = True
    response_format: _Format | None = None
    n: Copies | None = 1
    stop: str | list[str] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    seed: int | None = None
    temperature: Share | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    modalities: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    audio: Json = None
    prediction: Json = None
    functions: Json = None
    function_call: Json = None
    web_search_options: Json = None


def read_chat(body: bytes) -> ChatRequest:
    """A request. Raises Refusal 400."""
    request = decode_request(body, ChatRequest)
    names = ("logprobs", "top_logprobs", "logit_bias", "audio", "prediction", "functions", "function_call")
    refuse_given({name: getattr(request, name) for name in names})
    if request.modalities not in (None, ["text"]):
        raise Refusal(400, "modalities: this model answers with text", param="modalities")
    return request


def ask_of(request: ChatRequest, files: Pictures) -> Ask:
    """What a request asks for. Raises Refusal 400."""
    form = request.response_format
    json_schema = form.json_schema if form is not None else None
    ask = Ask(
        turns=[_turn(message, f"messages[{index}]", files) for index, message in enumerate(request.messages)],
        tools=[
            _tool(tool, f"tools[{index}]")
            for index, tool in enumerate(request.tools or ())
            if tool.type != KIND  # This model has them anyway.
        ],
        choice=read_choice(request.tool_choice),
        parallel=request.parallel_tool_calls is not False,
        stop=read_stop(request.stop),
        most_tokens=request.max_completion_tokens or request.max_tokens,
    )
    if form is not None:
        schema = json_schema.schema if json_schema is not None else None
        strict = json_schema.strict if json_schema is not None else None
        ask.schema = read_format(form.type, schema, strict, "response_format.json_schema")
    ask.check()
    return ask


def _turn(message: _Message, where: str, files: Pictures) -> Turn:
    role: Any = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    turn = Turn(role=role, answered=message.tool_call_id or "")
    if role == "tool" and not message.tool_call_id:
        raise Refusal(400, f"{where}.tool_call_id is missing", param=f"{where}.tool_call_id")
    if isinstance(message.content, str):
        turn.text = message.content
    elif message.content is None and role in ("user", "system", "tool"):
        raise Refusal(400, f"{where}.content is missing", param=f"{where}.content")
    texts = []
    for index, part in enumerate(message.content if isinstance(message.content, list) else ()):
        at = f"{where}.content[{index}]"
        if part.type in ("text", "refusal"):
            texts.append(part.text or part.refusal)
        elif part.type == "image_url" and part.image_url is not None:
            add_picture(turn, part.image_url.url, f"{at}.image_url.url")
        elif part.type == "file" and part.file is not None and part.file.file_id:
            turn.images.append(files(part.file.file_id, f"{at}.file.file_id"))
        elif part.type == "file" and part.file is not None and part.file.file_data:
            turn.images.append(from_data_uri(part.file.file_data, f"{at}.file.file_data"))
        else:
            raise Refusal(
                400, f"{at}: this model reads text, image_url and file, not {part.type!r}", param=f"{at}.type"
            )
    turn.text = turn.text or "\n".join(texts)
    turn.calls = [
        ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
    ]
    return turn


def _tool(tool: _Tool, where: str) -> Tool:
    if tool.type != "function" or tool.function is None:
        raise Refusal(400, f"{where}.type must be 'function', not {tool.type!r}", param=f"{where}.type")
    function = tool.function
    return read_tool(function.name, function.description, function.parameters, f"{where}.function")


# Answers ----------------------------------------------------------------------------------------


def completion(ask: Ask, answer: Answer, model: str, copies: int) -> dict[str, Json]:
    """A whole answer."""
    message: dict[str, Json] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = _calls(answer)
    else:
        message["content"] = answer.text
    choice = {"message": message, "logprobs": None, "finish_reason": _finish(answer)}
    result: dict[str, Json] = {
        **head_of("chatcmpl-", "chat.completion", model),
        "choices": [{"index": index, **choice} for index in range(copies)],
        "usage": usage_of(ask, answer, copies),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    if answer.used:
        result["smol_calls"] = answer.used
    return result


async def chunks(
    ask: Ask, work: Callable[[], Awaitable[Answer]], model: str, copies: int, include_usage: bool
) -> AsyncGenerator[dict[str, Json]]:
    """An answer in chunks; the first comes before the work is done."""
    base: dict[str, Json] = {
        **head_of("chatcmpl-", "chat.completion.chunk", model),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    usage: dict[str, Json] = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Json], finish: str | None = None) -> dict[str, Json]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "choices": [choice], **usage}

    for index in range(copies):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
    answer = await work()
    for index in range(copies):
        for delta in _deltas(answer):
            yield chunk(index, delta)
        yield chunk(index, {}, _finish(answer))
    if include_usage:
        yield {**base, "choices": [], "usage": usage_of(ask, answer, copies)}


def _deltas(answer: Answer) -> Iterator[dict[str, Json]]:
    for piece in pieces(answer.text):
        yield {"content": piece}
    for number, call in enumerate(_calls(answer)):
        function = call["function"]
        yield {"tool_calls": [{**call, "index": number, "function": {**function, "arguments": ""}}]}
        for piece in pieces(function["arguments"]):
            yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.calls
    ]


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "length" if answer.cut else "stop"


def usage_of(ask: Ask, answer: Answer, copies: int) -> dict[str, Json]:
    """Tokens of a request and of its answers."""
    read, said = ask.prompt_tokens(), answer.tokens() * copies
    return {
        "prompt_tokens": read,
        "completion_tokens": said,
        "total_tokens": read + said,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
