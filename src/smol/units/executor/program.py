"""The format of programs: its types, and reading it from YAML or JSON with the line of each step.

What the parts mean to each other (names, references, arguments) is checked in `check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import UNSET, Meta, UnsetType

from smol.errors import InvalidArgument
from smol.types import Json

__all__ = [
    "ACTIONS",
    "Catch",
    "Collect",
    "Limits",
    "Program",
    "Retry",
    "Source",
    "Step",
    "Stream",
    "WaitFor",
    "parse",
    "schema",
]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a program may take; the table `[units.executor]` of smol.toml.

    steps: instructions executed in one run. depth: of nesting, sub-programs included.
    items: of one `for_each`. allowed: patterns of operations that programs may call, as `storage.*`.
    """

    source_bytes: Annotated[int, Meta(ge=1)] = 1_048_576
    steps: Annotated[int, Meta(ge=1)] = 10_000
    depth: Annotated[int, Meta(ge=1, le=64)] = 16
    parallelism: Annotated[int, Meta(ge=1, le=256)] = 16
    items: Annotated[int, Meta(ge=1)] = 10_000
    journal_bytes: Annotated[int, Meta(ge=1)] = 64 << 20
    run_seconds: Seconds = 86_400.0
    step_seconds: Seconds = 300.0
    runs: Annotated[int, Meta(ge=1)] = 64
    runs_kept: Annotated[int, Meta(ge=1)] = 1000
    allowed: tuple[str, ...] = ("*",)


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Try a call again. attempts: in all. factor: of the wait from one attempt to the next. on: status codes."""

    attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    wait_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    longest_wait_seconds: Seconds = 60.0
    on: tuple[str, ...] = ("UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED")


class Catch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done instead when a step fails; `error` has `code` and `message`. on: status codes; none: all."""

    do: list[Step]
    on: tuple[str, ...] = ()


class Collect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a stream a call takes: it ends with `items`, after `seconds`, or with the stream."""

    items: Annotated[int, Meta(ge=1, le=1_000_000)]
    seconds: Seconds | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stream whose items are dealt with as they come."""

    call: str
    with_: dict[str, Json] = msgspec.field(name="with", default_factory=dict)
    collect: Collect


class WaitFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event to wait for. event: its topic, `*` at the end for any rest. where: taken only if this is true."""

    event: str
    where: str | bool = True


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instruction: exactly one of call, for_each, parallel, program, set, wait and return.

    with_: arguments of the call or the sub-program. collect: what is taken of a call to a stream.
    do: what for_each does with each `item`.
    parallelism: items of for_each, or branches of parallel, at the same time.
    """

    id: Name | None = None
    if_: str | bool | None = msgspec.field(name="if", default=None)
    call: str | UnsetType = UNSET
    program: str | UnsetType = UNSET
    with_: dict[str, Json] = msgspec.field(name="with", default_factory=dict)
    collect: Collect | UnsetType = UNSET
    for_each: list[Json] | str | Stream | UnsetType = UNSET
    do: list[Step] | UnsetType = UNSET
    parallel: list[list[Step]] | UnsetType = UNSET
    parallelism: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    set: dict[Name, Json] | UnsetType = UNSET
    wait: float | str | WaitFor | UnsetType = UNSET
    return_: Json | UnsetType = msgspec.field(name="return", default=UNSET)
    retry: Retry | None = None
    timeout_seconds: Seconds | None = None
    catch: Catch | None = None

    @property
    def actions(self) -> list[str]:
        """The actions given; a valid step has one."""
        return [name for name, field in ACTIONS.items() if getattr(self, field) is not UNSET]


ACTIONS: Mapping[str, str] = {
    "call": "call",
    "for_each": "for_each",
    "parallel": "parallel",
    "program": "program",
    "set": "set",
    "wait": "wait",
    "return": "return_",
}
"""Each action as it is written, and its field."""


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program. programs: sub-programs by name. registers: the first values of its variables."""

    steps: Annotated[list[Step], Meta(min_length=1)]
    name: str = ""
    description: str = ""
    registers: dict[Name, Json] = {}
    programs: dict[Name, Annotated[list[Step], Meta(min_length=1)]] = {}


class Source(msgspec.Struct, frozen=True):
    """A program and the line of each of its parts by path, as `steps[0].with`."""

    program: Program
    lines: dict[str, int] = {}

    def line(self, path: str) -> int:
        """The line of a path or of the nearest part around it, from 1; 0 when it is not known."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 0)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, by which a short text could grow beyond all memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed; use registers", problem_mark=mark)
        return super().compose_node(parent, index)


# YAML 1.2's idea of plain words: `on`, `yes` and dates are text.
_Loader.yaml_implicit_resolvers = {
    first: [
        entry for entry in entries if entry[0] not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse(text: str, limits: Limits) -> Source:
    """Read YAML, of which JSON is a part. Raises InvalidArgument with line and path."""
    if len(text.encode(errors="replace")) > limits.source_bytes:
        raise InvalidArgument(f"a program of {len(text)} characters is beyond {limits.source_bytes} bytes")
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                for path, line in _lines(node, ""):
                    lines[path] = line
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        raise InvalidArgument(f"line {line}: {error.problem or error.context}", line=line, path="") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"the program can't be read: {error}", line=0, path="") from None
    try:
        return Source(msgspec.convert(data, Program), lines)
    except msgspec.ValidationError as error:
        problem = str(error).partition(" - at ")[0]
        where = re.search(r"`\$([^`]*)`$", str(error))
        path = where[1].lstrip(".") if where is not None else ""
        line = Source(Program(steps=[]), lines).line(path)
        raise InvalidArgument(f"line {line}: {path or 'program'}: {problem}", line=line, path=path) from None


def schema() -> dict[str, Json]:
    """JSON Schema of a program."""
    return msgspec.json.schema(Program)


def _lines(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} is there twice", problem_mark=key.start_mark)
            seen.add(name)
            yield from _lines(value, f"{path}.{name}" if path else name)
