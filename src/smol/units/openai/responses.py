"""`/v1/responses`, after Open Responses: its requests and answers, whole and as events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, TypeAlias

import msgspec

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.dialect import KIND
from smol.units.openai.conversation import Answer, Ask, Tool, ToolCall, Turn, new_id, pieces
from smol.units.openai.pictures import add_picture
from smol.units.openai.reading import (
    Pictures,
    decode_request,
    read_choice,
    read_format,
    read_tool,
    refuse_given,
)

__all__ = [
    "ResponseRequest",
    "ask_of",
    "events",
    "opening",
    "read_response",
    "response",
    "turn_of",
]

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    image_url: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    refusal: str = ""


class _Item(msgspec.Struct):
    type: str = "message"
    id: str | None = None
    role: str = "user"
    content: str | list[_Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[_Part] | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: Any = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    name: str | None = None
    schema: Any = None
    description: str | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class ResponseRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters of Open Responses."""

    model: str
    input: str | list[_Item]
    instructions: str | None = None
    stream: bool | None = False
    stream_options: Json = None
    store: bool | None = True
    previous_response_id: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: Json = None
    parallel_tool_calls: bool | None = True
    max_tool_calls: int | None = None
    text: _Text | None = None
    max_output_tokens: Positive | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    reasoning: Json = None
    include: list[str] | None = None
    background: bool | None = None
    conversation: Json = None
    prompt: Json = None
    top_logprobs: int | None = None


def read_response(body: bytes) -> ResponseRequest:
    """A request. Raises Refusal 400."""
    request = decode_request(body, ResponseRequest)
    names = ("background", "conversation", "prompt", "top_logprobs")
    refuse_given({name: getattr(request, name) for name in names})
    return request


def ask_of(request: ResponseRequest, before: list[Turn], files: Pictures) -> Ask:
    """What a request asks for, after a conversation. Raises Refusal 400."""
    items = [_Item(content=request.input)] if isinstance(request.input, str) else request.input
    turns = [Turn(role="system", text=request.instructions)] if request.instructions else []
    turns += before
    for index, item in enumerate(items):
        turn = _turn(item, f"input[{index}]", files)
        if turn is not None:
            turns.append(turn)
    ask = Ask(
        turns=turns,
        tools=[
            _tool(tool, f"tools[{index}]")
            for index, tool in enumerate(request.tools or ())
            if tool.type != KIND  # This model has them anyway.
        ],
        choice=read_choice(request.tool_choice),
        parallel=request.parallel_tool_calls is not False,
        most_tokens=request.max_output_tokens,
    )
    form = request.text.format if request.text is not None else None
    if form is not None:
        ask.schema = read_format(form.type, form.schema, form.strict, "text.format")
    ask.check()
    return ask


def _turn(item: _Item, where: str, files: Pictures) -> Turn | None:
    if item.type == "reasoning":
        return None
    if item.type == "function_call":
        return Turn(role="assistant", calls=[ToolCall(item.call_id, item.name, item.arguments)])
    if item.type == "function_call_output":
        parts = item.output if isinstance(item.output, list) else []
        text = item.output if isinstance(item.output, str) else "\n".join(part.text for part in parts)
        return Turn(role="tool", text=text, answered=item.call_id)
    if item.type != "message":
        raise Refusal(400, f"{where}.type {item.type!r} is not supported", param=f"{where}.type")
    role: Any = {"developer": "system"}.get(item.role, item.role)
    if role not in ("system", "user", "assistant"):
        raise Refusal(400, f"{where}.role must be system, developer, user or assistant", param=f"{where}.role")
    if item.content is None:
        raise Refusal(400, f"{where}.content is missing", param=f"{where}.content")
    turn = Turn(role=role)
    if isinstance(item.content, str):
        turn.text = item.content
        return turn
    texts = []
    for index, part in enumerate(item.content):
        at = f"{where}.content[{index}]"
        if part.type in ("input_text", "output_text", "text", "refusal"):
            texts.append(part.text or part.refusal)
        elif part.type in ("input_image", "input_file") and part.file_id:
            turn.images.append(files(part.file_id, f"{at}.file_id"))
        elif part.type == "input_image" and part.image_url:
            add_picture(turn, part.image_url, f"{at}.image_url")
        else:
            raise Refusal(
                400, f"{at}: this model reads input_text and input_image, not {part.type!r}", param=f"{at}.type"
            )
    turn.text = "\n".join(texts)
    return turn


def _tool(tool: _Tool, where: str) -> Tool:
    if tool.type != "function":
        raise Refusal(400, f"{where}.type must be 'function', not {tool.type!r}", param=f"{where}.type")
    return read_tool(tool.name, tool.description, tool.parameters, where)


# Answers ----------------------------------------------------------------------------------------


def response(
    request: ResponseRequest, ask: Ask, answer: Answer | None, opened: dict[str, Json]
) -> dict[str, Json]:
    """A response as it is now. answer: None while it is being worked at. opened: its id and time."""
    read = ask.prompt_tokens()
    said = answer.tokens() if answer is not None else 0
    cut = answer is not None and answer.cut
    form = request.text.format if request.text is not None and request.text.format is not None else _Format()
    shown = {key: value for key, value in msgspec.to_builtins(form).items() if value is not None}
    return {
        **opened,
        "object": "response",
        "status": "in_progress" if answer is None else "incomplete" if cut else "completed",
        "completed_at": int(time.time()) if answer is not None and not cut else None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": request.model,
        "output": _items(answer) if answer is not None else [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "background": False,
        "service_tier": "default",
        "store": request.store is not False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "presence_penalty": request.presence_penalty or 0.0,
        "frequency_penalty": request.frequency_penalty or 0.0,
        "top_logprobs": 0,
        "text": {"format": shown, "verbosity": "medium"},
        "tool_choice": request.tool_choice or "auto",
        "tools": [_shown_tool(tool) for tool in request.tools or () if tool.type != KIND],
        "truncation": request.truncation or "disabled",
        **({"user": request.user} if request.user is not None else {}),
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
        "metadata": request.metadata or {},
        "usage": None if answer is None else {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + said,
        },
    }  # fmt: skip


def opening() -> dict[str, Json]:
    """The id and time of a new response."""
    return {"id": new_id("resp_"), "created_at": int(time.time())}


def _shown_tool(tool: _Tool) -> dict[str, Json]:
    return {"strict": None, "parameters": {}, "description": None, **msgspec.to_builtins(tool)}


def turn_of(answer: Answer) -> Turn:
    """An answer as what was said, for the conversation that goes on."""
    return Turn(role="assistant", text=answer.text, calls=answer.calls)


def _items(answer: Answer) -> list[dict[str, Json]]:
    items: list[dict[str, Json]] = []
    if answer.text or not answer.calls:
        status = "incomplete" if answer.cut else "completed"
        items.append(
            {
                "id": new_id("msg_"),
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": [_text(answer.text)],
            }
        )
    for call in answer.calls:
        items.append(
            {
                "id": new_id("fc_"),
                "type": "function_call",
                "status": "completed",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
        )
    return items


def _text(text: str) -> dict[str, Json]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def events(
    request: ResponseRequest, ask: Ask, work: Callable[[], Awaitable[Answer]], opened: dict[str, Json]
) -> AsyncGenerator[dict[str, Json]]:
    """An answer as events; the last one holds the whole response."""
    number = -1

    def event(kind: str, **fields: Json) -> dict[str, Json]:
        nonlocal number
        number += 1
        return {"type": kind, "sequence_number": number, **fields}

    empty = response(request, ask, None, opened)
    yield event("response.created", response=empty)
    yield event("response.in_progress", response=empty)
    answer = await work()
    final = response(request, ask, answer, opened)
    output: list[dict[str, Any]] = final["output"]
    for index, item in enumerate(output):
        at = {"item_id": item["id"], "output_index": index}
        started = {**item, "status": "in_progress"}
        if item["type"] == "message":
            part = {**at, "content_index": 0}
            text = item["content"][0]["text"]
            yield event("response.output_item.added", output_index=index, item={**started, "content": []})
            yield event("response.content_part.added", **part, part=_text(""))
            for piece in pieces(text):
                yield event("response.output_text.delta", **part, delta=piece, logprobs=[])
            yield event("response.output_text.done", **part, text=text, logprobs=[])
            yield event("response.content_part.done", **part, part=_text(text))
        else:
            yield event("response.output_item.added", output_index=index, item={**started, "arguments": ""})
            for piece in pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            yield event(
                "response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"]
            )
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.incomplete" if answer.cut else "response.completed", response=final)
