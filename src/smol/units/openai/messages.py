"""Anthropic's `/v1/messages`: its requests and answers, whole and as events.

Fields that only steer a language model are read over, as its clients send many of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.agent.dialect import KIND
from smol.units.openai.conversation import Answer, Ask, Choice, Tool, ToolCall, Turn, as_json, new_id, pieces
from smol.units.openai.pictures import add_picture
from smol.units.openai.reading import Pictures, decode_request, read_tool

__all__ = ["MessageRequest", "ask_of", "events", "message", "read_message"]


class _Source(msgspec.Struct):
    type: str
    media_type: str = ""
    data: str = ""
    file_id: str = ""
    url: str = ""


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    source: _Source | None = None
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str = ""
    description: str | None = None
    input_schema: Any = None
    type: str | None = None


class _Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class MessageRequest(msgspec.Struct, kw_only=True):
    """Anthropic's parameters."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 4096
    system: Any = None
    stream: bool = False
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    stop_sequences: list[str] | None = None


def read_message(body: bytes) -> MessageRequest:
    """A request. Raises Refusal 400."""
    return decode_request(body, MessageRequest)


def ask_of(request: MessageRequest, files: Pictures) -> Ask:
    """What a request asks for. Raises Refusal 400."""
    turns = []
    for index, each in enumerate(request.messages):
        turns += _turns(each, f"messages.{index}", files)
    tools: list[Tool] = []
    for index, tool in enumerate(request.tools or ()):
        if tool.type == KIND:
            continue  # This model has them anyway.
        if tool.type not in (None, "custom"):
            raise Refusal(
                400, f"tools.{index}: the tool {tool.type!r} is not supported", param=f"tools.{index}.type"
            )
        tools.append(read_tool(tool.name, tool.description, tool.input_schema, f"tools.{index}"))
    choice = request.tool_choice
    mode: Any = {"any": "required", "tool": "required", "none": "none"}.get(choice.type if choice else "", "auto")
    ask = Ask(
        turns=turns,
        tools=tools,
        choice=Choice(mode, choice.name if choice is not None and choice.type == "tool" else ""),
        parallel=choice is None or not choice.disable_parallel_tool_use,
        stop=request.stop_sequences or [],
        most_tokens=request.max_tokens,
    )
    ask.check()
    return ask


def _turns(each: _Message, where: str, files: Pictures) -> list[Turn]:
    if isinstance(each.content, str):
        return [Turn(role=each.role, text=each.content)]
    turn = Turn(role=each.role)
    results: list[Turn] = []
    texts = []
    for index, block in enumerate(each.content):
        at = f"{where}.content.{index}"
        if block.type == "text":
            texts.append(block.text)
        elif block.type == "image" and block.source is not None:
            _add_picture(turn, block.source, f"{at}.source", files)
        elif block.type == "tool_use":
            turn.calls.append(ToolCall(block.id, block.name, as_json(block.input)))
        elif block.type == "tool_result":
            results.append(Turn(role="tool", text=_flat(block.content), answered=block.tool_use_id))
        elif block.type not in ("thinking", "redacted_thinking"):
            raise Refusal(400, f"{at}: {block.type!r} is not supported", param=f"{at}.type")
    turn.text = "\n".join(texts)
    said = [turn] if turn.text or turn.images or turn.calls else []
    return results + said


def _add_picture(turn: Turn, source: _Source, where: str, files: Pictures) -> None:
    if source.type == "base64":
        add_picture(turn, f"data:{source.media_type};base64,{source.data}", where)
    elif source.type == "url":
        add_picture(turn, source.url, f"{where}.url")
    elif source.type == "file":
        turn.images.append(files(source.file_id, f"{where}.file_id"))
    else:
        raise Refusal(400, f"{where}: send base64, a url or a file, not {source.type!r}", param=f"{where}.type")


def _flat(content: Json) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


_NOTHING_MORE: Mapping[str, Json] = {"stop_details": None, "container": None}
"""What Anthropic's clients may look for, and Smol has nothing to say about."""


def message(ask: Ask, answer: Answer, model: str) -> dict[str, Json]:
    """A whole answer."""
    return {**_head(ask, model), "content": _blocks(answer), "stop_reason": _reason(answer),
            "stop_sequence": answer.stopped_by, **_NOTHING_MORE, "usage": _usage(ask, answer)}  # fmt: skip


async def events(ask: Ask, work: Callable[[], Awaitable[Answer]], model: str) -> AsyncGenerator[dict[str, Json]]:
    """An answer as events."""
    empty = {
        **_head(ask, model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **_NOTHING_MORE,
        "usage": _usage(ask, Answer()),
    }
    yield {"type": "message_start", "message": empty}
    answer = await work()
    for index, block in enumerate(_blocks(answer)):
        if block["type"] == "text":
            yield {"type": "content_block_start", "index": index, "content_block": _text("")}
            for piece in pieces(block["text"]):
                yield {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": "text_delta", "text": piece},
                }
        else:
            yield {"type": "content_block_start", "index": index, "content_block": {**block, "input": {}}}
            delta = {"type": "input_json_delta", "partial_json": as_json(block["input"])}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": _reason(answer), "stop_sequence": answer.stopped_by, **_NOTHING_MORE}
    yield {"type": "message_delta", "delta": ending, "usage": _usage(ask, answer)}
    yield {"type": "message_stop"}


def _head(ask: Ask, model: str) -> dict[str, Json]:
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": model}


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks = [_text(answer.text)] if answer.text else []
    for call in answer.calls:
        given = msgspec.json.decode(call.arguments)
        caller = {"type": "direct"}
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given, "caller": caller})
    return blocks


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _reason(answer: Answer) -> str:
    if answer.calls:
        return "tool_use"
    return "max_tokens" if answer.cut else "stop_sequence" if answer.stopped_by else "end_turn"


def _usage(ask: Ask, answer: Answer) -> dict[str, Json]:
    return {
        "input_tokens": ask.prompt_tokens(),
        "output_tokens": answer.tokens(),
        "output_tokens_details": None,
        "cache_creation": None,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
    }
