"""What an instruction asks for, without a language model: deterministic rules over its words.

`understand` is one replaceable part: text and whether there is a picture in, an `Intent` out. It calls nothing.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from smol.types import Json
from smol.units.openai.phrases import (
    CALL,
    CHECK,
    COUNT,
    DESCRIBE,
    FACT,
    FENCE,
    FORGET,
    FORMULA,
    HELP,
    HOW_MANY_OF,
    LOCATE,
    MEMORIES,
    RECALL,
    REMEMBER,
    REQUEST,
    SINGULARS,
    SPOKEN,
    UNITS,
)

__all__ = ["Intent", "singular", "understand"]


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted. what: its object (a thing, an expression, a key). value: what to keep under it.

    operation, arguments: of a call that was spelled out.
    """

    kind: Literal[
        "describe", "count", "locate", "check", "compute", "remember", "recall", "forget", "memories", "code",
        "program", "call", "help", "unknown", "no_picture",
    ]  # fmt: skip
    what: str = ""
    value: str = ""
    language: str = ""
    operation: str = ""
    arguments: dict[str, Json] = {}


_IDLE = frozenset(["the", "a", "an", "my", "our", "your", "that", "about", "is", "are", "i", "me"])
_VAGUE = frozenset({"things", "objects", "thing", "object", "items"})


def understand(text: str, picture: bool) -> Intent:
    """What a message asks for. picture: whether the conversation has one."""
    text = text.strip()[:20_000]
    fence = FENCE.search(text)
    if fence is not None:
        return _of_block(fence[1].lower(), fence[2], text[: fence.start()].lower())
    spelled = CALL.match(text)
    if spelled is not None:
        return _spelled_out(spelled)
    low = " ".join(text.lower().split())
    if not low:
        return Intent(kind="describe" if picture else "help")
    if found := MEMORIES.search(low):
        return Intent(kind="memories")
    if found := REMEMBER.match(text):
        return _fact(found["fact"].strip().rstrip("."))
    if found := FORGET.match(low):
        return Intent(kind="forget", what=topic(found["what"]))
    formula = _formula(text)
    if formula is not None:
        return Intent(kind="compute", what=formula)
    if (seen := _of_picture(low, picture)) is not None:
        return seen
    if HELP.match(low):
        return Intent(kind="help")
    if (found := RECALL.match(low)) and not picture:
        return Intent(kind="recall", what=topic(found["what"]))
    return Intent(kind="describe" if picture else "unknown", what=text)


_LANGUAGES = {"": "python", "py": "python", "js": "javascript", "sh": "shell", "bash": "shell"}
"""What people write above a block of code, where it is not the name of a language."""


def _of_picture(low: str, picture: bool) -> Intent | None:
    for kind, pattern in (("count", COUNT), ("check", CHECK), ("locate", LOCATE)):
        found = pattern.search(low)
        if found is None:
            continue
        groups = found.groupdict()
        thing = (groups.get("what") or groups.get("seen") or "").strip()
        about_picture = picture or kind == "count" or re.search(r"\b(?:picture|image|photo)\b", low)
        if not thing or not about_picture:
            continue
        if not picture:
            return Intent(kind="no_picture", what=thing)
        named: Any = kind
        return Intent(kind=named, what="" if thing in _VAGUE else singular(thing))
    if picture:
        return Intent(kind="describe")
    if DESCRIBE.search(low) and re.search(r"\b(?:picture|image|photo|photograph)\b", low):
        return Intent(kind="no_picture")
    return None


def _of_block(language: str, block: str, before: str) -> Intent:
    programs = language in ("yaml", "yml", "smol") or (language == "json" and '"steps"' in block)
    if "program" in before or programs:
        return Intent(kind="program", what=block)
    return Intent(kind="code", what=block, language=_LANGUAGES.get(language, language))


def _spelled_out(found: re.Match[str]) -> Intent:
    try:
        arguments = msgspec.json.decode(found[2] or "{}")
    except (msgspec.DecodeError, RecursionError):
        return Intent(kind="unknown", what=found[0])
    return Intent(kind="call", operation=found[1], arguments=arguments)


def _fact(fact: str) -> Intent:
    found = FACT.match(fact)
    if found is None:
        return Intent(kind="remember", what=topic(fact), value=fact)
    return Intent(kind="remember", what=topic(found["what"]), value=found["value"].strip())


def _formula(text: str) -> str | None:
    """An expression for `math.evaluate`, if the text is one, or asks for one."""
    low = text.lower().strip()
    found = HOW_MANY_OF.match(low)
    if found is not None:
        what = re.sub(r"^an?\s+", "1 ", found["what"])
        return f"{_with_units(what)} to {UNITS.get(found['to'], found['to'])}"
    asked = REQUEST.match(text)
    bare = (text[asked.end() :] if asked is not None else text).strip().rstrip("?.!= ")
    for pattern, sign in SPOKEN:
        bare = pattern.sub(sign, bare)
    if re.search(r"\b(?:convert|in|to|into)\b", low) and re.search(r"\d", bare):
        bare = re.sub(r"\s+(?:into|to|in)\s+", " to ", _with_units(bare))
    if text.rstrip().endswith("!") and re.search(r"\d$", bare) and asked is not None:
        bare += "!"
    if not FORMULA.search(bare):
        return None
    words = re.findall(r"[A-Za-z]{2,}", bare)
    calls = set(re.findall(r"([A-Za-z]\w*)\s*\(", bare))
    loose = [word for word in words if word not in calls and word not in _FORMULA_WORDS]
    return bare if asked is not None or len(loose) <= 1 else None


_FORMULA_WORDS = frozenset({"to", "pi", "in", "mod", *UNITS.values()})


def _with_units(text: str) -> str:
    return re.sub(r"[A-Za-z]+", lambda found: UNITS.get(found[0].lower(), found[0]), text)


def topic(text: str) -> str:
    """What a fact is about, so that it is found again however it is asked for."""
    words = re.findall(r"[\w']+", text.lower())
    kept = [word for word in words if word not in _IDLE]
    return " ".join(kept or words)[:120]


def singular(thing: str) -> str:
    """The name of one of several things, as networks name them."""
    thing = re.sub(r"^(?:the|a|an|any|all|different|other)\s+", "", thing.strip())
    if thing in SINGULARS:
        return SINGULARS[thing]
    if thing.endswith("ies") and len(thing) > 4:
        return thing[:-3] + "y"
    if re.search(r"(?:ses|shes|ches|xes|zes)$", thing):
        return thing[:-2]
    return thing[:-1] if thing.endswith("s") and not thing.endswith(("ss", "us", "is")) else thing
