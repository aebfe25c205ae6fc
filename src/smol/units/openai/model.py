"""The model `smol`: understands an instruction by rules, calls the units, and answers in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from smol.errors import Cancelled, NotFound, PermissionDenied, SmolError, Unavailable
from smol.types import Attachment, Json
from smol.units.openai.conversation import Answer, Ask, Turn, as_json
from smol.units.openai.tools import choose, fill
from smol.units.openai.understand import Intent, understand

__all__ = ["MODEL", "Call", "answer"]

MODEL = "smol"
MEMORY = "memory"
_LONGEST_SHOWN = 4000

Call = Callable[[str, Mapping[str, Any]], Awaitable[Json]]
"""Calls an operation with arguments, as far as whoever asks may."""

_ABILITIES = """I am smol: I follow instructions by rules, without a language model. I can
- say what is in a picture you attach, count things in it, say where they are;
- compute and convert: "2^100 / 3", "convert 5 miles to km";
- remember and recall: "remember that my locker is 42", "what is my locker?", "forget my locker";
- run a program that you give as a ```yaml block, or code in a ```python, ```javascript or ```shell block;
- call any operation: `math.evaluate {"expression": "6*7"}`."""


class _Used:
    """Calls operations, and keeps what was called and what came of it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.calls: list[dict[str, Json]] = []

    async def __call__(self, operation: str, **arguments: Any) -> Any:
        shown = {name: value for name, value in arguments.items() if not isinstance(value, Attachment)}
        entry: dict[str, Json] = {"operation": operation, "arguments": shown}
        self.calls.append(entry)
        try:
            result = await self._call(operation, arguments)
        except SmolError as error:
            entry["error"] = {"code": error.code, "message": error.message}
            raise
        entry["result"] = _without_bytes(result)
        return result


async def answer(ask: Ask, call: Call) -> Answer:
    """Answer a conversation. Errors of units become words; what the caller did wrong is raised."""
    last = next((turn for turn in reversed(ask.turns) if turn.role == "user"), Turn(role="user"))
    results = _results_of_tools(ask.turns)
    if not results or ask.choice.mode == "required":
        calls = choose(ask, last.text)
        if calls:
            return Answer(calls=calls)
    used = _Used(call)
    text = results or await _say(ask, last, used)
    if ask.schema is not None:
        text = as_json(fill(ask.schema or {"type": "object"}, text, whole=True))
    return Answer(text=text, used=used.calls).limit(ask)


def _results_of_tools(turns: list[Turn]) -> str:
    """What the tools answered last, in words; empty when that has been told already."""
    names = {call.id: call.name for turn in turns for call in turn.calls}
    told = []
    for turn in reversed(turns):
        if turn.role != "tool":
            break
        told.append(f"{names.get(turn.answered, 'The tool')} answered: {turn.text}")
    return "\n".join(reversed(told))


async def _say(ask: Ask, last: Turn, use: _Used) -> str:
    images = next((turn.images for turn in reversed(ask.turns) if turn.images), [])
    intent = understand(last.text, bool(images))
    try:
        if intent.kind in ("describe", "count", "locate", "check"):
            seen = [await _look(intent, image, use) for image in images]
            return (
                seen[0] if len(seen) == 1 else "\n".join(f"Picture {i}: {text}" for i, text in enumerate(seen, 1))
            )
        return await _DOERS[intent.kind](intent, use)
    except (Cancelled, PermissionDenied):
        raise
    except SmolError as error:
        return f"That did not work: {error.message} ({error.code})"


async def _look(intent: Intent, image: Attachment, use: _Used) -> str:
    try:
        found = await use("detect.image", image=image)
    except (Unavailable, NotFound) as error:
        if intent.kind != "describe":
            return f"I can't find objects in pictures now: {error.message}"
        return await _classified(image, use)
    objects: list[dict[str, Any]] = found["objects"]
    wanted = [each for each in objects if _is(intent.what, each["label"])] if intent.what else objects
    if intent.kind == "count":
        return f"I count {_amount(len(wanted), intent.what or 'object')}."
    if intent.kind == "check":
        return (
            f"Yes, {_amount(len(wanted), intent.what)}."
            if wanted
            else f"No, I see no {intent.what}.{_else(objects)}"
        )
    if intent.kind == "locate":
        if not wanted:
            return f"I see no {intent.what}.{_else(objects)}"
        return " ".join(_place(each, found["width"], found["height"]) for each in wanted)
    if not objects:
        return await _classified(image, use)
    counts = Counter(each["label"] for each in objects)
    return f"I see {_listed([_amount(count, label) for label, count in counts.most_common()])}."


async def _classified(image: Attachment, use: _Used) -> str:
    found = await use("classify.image", image=image, top=3)
    names = [f"{each['label'].replace('_', ' ')} ({each['score']:.0%})" for each in found["classes"]]
    return f"I find no single objects; as a whole it looks like {names[0]}, or perhaps {_listed(names[1:], 'or')}."


async def _compute(intent: Intent, use: _Used) -> str:
    found = await use("math.evaluate", expression=intent.what)
    exact, decimal = found.get("exact"), found.get("decimal")
    if exact and decimal and exact != decimal and len(exact) < 80:
        return f"{intent.what} = {exact} ≈ {decimal}"
    return f"{intent.what} = {exact or decimal}"


async def _remember(intent: Intent, use: _Used) -> str:
    await use("storage.put", collection=MEMORY, key=intent.what, value=intent.value)
    return (
        f"I will remember: {intent.what} is {intent.value}."
        if intent.what != intent.value
        else "I will remember it."
    )


async def _recall(intent: Intent, use: _Used) -> str:
    try:
        item = await use("storage.get", collection=MEMORY, key=intent.what)
    except NotFound:
        return f"I remember nothing about {intent.what!r}, and I do not know it by myself.\n\n{_ABILITIES}"
    return f"{intent.what} is {item['value']}."


async def _forget(intent: Intent, use: _Used) -> str:
    done = await use("storage.delete", collection=MEMORY, key=intent.what)
    return f"I forgot {intent.what}." if done["existed"] else f"I remember nothing about {intent.what!r}."


async def _memories(intent: Intent, use: _Used) -> str:
    page = await use("storage.list", collection=MEMORY, limit=50)
    lines = [f"- {entry['key']}: {entry.get('value')}" for entry in page["entries"]]
    return "I remember:\n" + "\n".join(lines) if lines else "I remember nothing yet."


async def _code(intent: Intent, use: _Used) -> str:
    try:
        run = await use("code.run", source=intent.what, language=intent.language)
    except NotFound:
        return "I can't run code: this Smol has no unit named 'code'."
    said = [run["stdout"].rstrip(), run["stderr"].rstrip()]
    if run.get("value") is not None:
        said.append(_shown(run["value"]))
    elif run.get("value_text") is not None:
        said.append(run["value_text"])
    if run["verdict"] != "ok":
        said.append(f"It ended: {run['verdict']}.")
    return "\n".join(filter(None, said)) or "It ran, and printed nothing."


async def _program(intent: Intent, use: _Used) -> str:
    return _shown(await use("executor.run", program=intent.what))


async def _operation(intent: Intent, use: _Used) -> str:
    return _shown(await use(intent.operation, **intent.arguments))


async def _help(intent: Intent, use: _Used) -> str:
    return _ABILITIES


async def _unknown(intent: Intent, use: _Used) -> str:
    return f"I do not understand that.\n\n{_ABILITIES}"


async def _no_picture(intent: Intent, use: _Used) -> str:
    return "Attach a picture (a data: URI, or an uploaded file), and I will look."


_DOERS: Mapping[str, Callable[[Intent, _Used], Awaitable[str]]] = {
    "compute": _compute,
    "remember": _remember,
    "recall": _recall,
    "forget": _forget,
    "memories": _memories,
    "code": _code,
    "program": _program,
    "call": _operation,
    "help": _help,
    "unknown": _unknown,
    "no_picture": _no_picture,
}


def _is(wanted: str, label: str) -> bool:
    return wanted == label or wanted in label.split()


def _amount(count: int, name: str) -> str:
    if count == 1:
        return f"1 {name}"
    irregular = {"person": "people", "mouse": "mice", "knife": "knives", "sheep": "sheep", "skis": "skis"}
    ending = "es" if name.endswith(("s", "sh", "ch", "x")) else "s"
    return f"{count or 'no'} {irregular.get(name, name + ending)}"


def _listed(names: list[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else "nothing"


def _else(objects: list[dict[str, Any]]) -> str:
    names = sorted({each["label"] for each in objects})
    return f" I do see: {', '.join(names)}." if names else ""


def _place(found: Mapping[str, Any], width: int, height: int) -> str:
    box = found["box"]
    across = ("left", "middle", "right")[min(2, int(3 * (box["x1"] + box["x2"]) / 2 / width))]
    down = ("top", "centre", "bottom")[min(2, int(3 * (box["y1"] + box["y2"]) / 2 / height))]
    where = "in the middle" if (across, down) == ("middle", "centre") else f"at the {down}, {across}"
    corner = f"x {box['x1']:.0f} to {box['x2']:.0f}, y {box['y1']:.0f} to {box['y2']:.0f}"
    return f"{found['label'].capitalize()} {where} ({corner}; {found['score']:.0%} sure)."


def _shown(value: Json) -> str:
    text = value if isinstance(value, str) else as_json(_without_bytes(value))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " …"


def _without_bytes(value: Json) -> Json:
    if isinstance(value, Attachment):
        return {"bytes": len(value), "media_type": value.media_type}
    if isinstance(value, dict):
        return {name: _without_bytes(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_bytes(item) for item in value]
    return value
