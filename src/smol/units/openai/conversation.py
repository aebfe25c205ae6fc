"""A conversation whatever API it came by: what was said, which tools there are, what is wanted; and an answer."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Literal

import msgspec

from smol.types import Attachment, Json
from smol.units.gateway.problems import Refusal

__all__ = [
    "CONTEXT_TOKENS",
    "Answer",
    "Ask",
    "Choice",
    "Remote",
    "Tool",
    "ToolCall",
    "Turn",
    "count_tokens",
    "pieces",
]

CONTEXT_TOKENS = 32_768
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


class ToolCall(msgspec.Struct, frozen=True):
    """A call that a caller is asked to make. arguments: JSON."""

    id: str
    name: str
    arguments: str


class Remote(msgspec.Struct, frozen=True):
    """A picture yet to be fetched. place: among its turn's images. param: what names it in the request."""

    place: int
    url: str
    param: str


class Turn(msgspec.Struct, kw_only=True):
    """One message. remote: images that are not here yet. answered: id of the tool call that it answers."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    images: list[Attachment] = msgspec.field(default_factory=list)
    remote: list[Remote] = msgspec.field(default_factory=list)
    calls: list[ToolCall] = msgspec.field(default_factory=list)
    answered: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the caller offers."""

    name: str
    description: str = ""
    parameters: dict[str, Json] = {}


class Choice(msgspec.Struct, frozen=True):
    """Which tool is to be called: none, the model's choice, any, or the one named."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str = ""


class Ask(msgspec.Struct, kw_only=True):
    """What is wanted of a model. schema: of the JSON to answer with; {} for any object; None for text."""

    turns: list[Turn]
    tools: list[Tool] = msgspec.field(default_factory=list)
    choice: Choice = Choice()
    parallel: bool = True
    schema: dict[str, Json] | None = None
    stop: list[str] = msgspec.field(default_factory=list)
    most_tokens: int | None = None

    def check(self) -> None:
        """Raises Refusal 400 for answers to calls nobody made, unknown tools and too much text."""
        made: set[str] = set()
        for index, turn in enumerate(self.turns):
            made |= {call.id for call in turn.calls}
            if turn.role == "tool" and turn.answered not in made:
                raise Refusal(
                    400,
                    f"messages[{index}] answers the tool call {turn.answered!r}, which nobody before it made",
                    param=f"messages[{index}].tool_call_id",
                )
        names = [tool.name for tool in self.tools]
        if self.choice.name and self.choice.name not in names:
            raise Refusal(
                400, f"tool_choice names {self.choice.name!r}, which is not among tools", param="tool_choice"
            )
        if self.choice.mode == "required" and not names:
            raise Refusal(400, "tool_choice asks for a call, and there are no tools", param="tool_choice")
        if self.prompt_tokens() > CONTEXT_TOKENS:
            raise Refusal(
                400,
                f"the conversation has {self.prompt_tokens()} tokens; the model takes {CONTEXT_TOKENS}",
                name="context_length_exceeded",
                param="messages",
            )

    def prompt_tokens(self) -> int:
        """How much there is to read."""
        return sum(count_tokens(turn.text) for turn in self.turns)


class Answer(msgspec.Struct, kw_only=True):
    """What a model says. cut: it had to stop before its end. used: operations that were called for it."""

    text: str = ""
    calls: list[ToolCall] = msgspec.field(default_factory=list)
    cut: bool = False
    stopped_by: str | None = None
    used: list[dict[str, Json]] = msgspec.field(default_factory=list)

    def limit(self, ask: Ask) -> Answer:
        """The same, cut at the first stop text and at the most tokens."""
        text, stopped_by, cut = self.text, None, False
        places = [(text.find(stop), stop) for stop in ask.stop if stop and stop in text]
        if places:
            place, stopped_by = min(places)
            text = text[:place]
        parts = pieces(text)
        if ask.most_tokens is not None and len(parts) > ask.most_tokens:
            text, cut, stopped_by = "".join(parts[: ask.most_tokens]), True, None
        return Answer(text=text, calls=self.calls, cut=cut, stopped_by=stopped_by, used=self.used)

    def tokens(self) -> int:
        """How much was said."""
        return count_tokens(self.text) + sum(count_tokens(call.arguments) for call in self.calls)


def count_tokens(text: str) -> int:
    """Words and signs: the model has no others."""
    return sum(1 for _ in _TOKEN.finditer(text))


def pieces(text: str) -> list[str]:
    """A text in the tokens of which it is streamed; none splits a character."""
    return _TOKEN.findall(text)


def new_id(prefix: str) -> str:
    """An id that nobody guesses."""
    return prefix + secrets.token_hex(12)


def head_of(prefix: str, kind: str, model: str) -> dict[str, Json]:
    """What OpenAI's answers begin with, whole ones and chunks."""
    return {"id": new_id(prefix), "object": kind, "created": int(time.time()), "model": model}


def as_json(value: Any) -> str:
    """JSON as text."""
    return msgspec.json.encode(value).decode()
