"""What can be known to be wrong with a program before it runs: one problem each, with line and path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from msgspec import UNSET

from smol.errors import CODES, InvalidArgument, nearest
from smol.protocol.messages import OperationDescription
from smol.types import Json
from smol.units.executor.arguments import mismatches
from smol.units.executor.program import ACTIONS, Limits, Source, Step, Stream, WaitFor
from smol.units.executor.references import ROOTS, names_in, references_in

__all__ = ["Problem", "check", "is_allowed", "operations_of"]

Operations = Mapping[str, OperationDescription | str]
"""What each called operation is, or why it is not there."""


_PLACES = {"error": "a catch", "event": "the `where` of a wait"}
"""Where a reference is known that is not known everywhere."""


class Problem(msgspec.Struct, frozen=True):
    """line: in the program's text, from 1; 0 when unknown. path: as `steps[2].with.image`."""

    line: int
    path: str
    message: str


class _View(msgspec.Struct, frozen=True):
    """What references see at a place. concurrent: whether other steps run beside it."""

    ids: frozenset[str]
    roots: frozenset[str]
    depth: int = 0
    concurrent: bool = False


def is_allowed(operation: str, allowed: Sequence[str]) -> bool:
    """Whether one of the patterns fits."""
    return any(fnmatchcase(operation, pattern) for pattern in allowed)


def operations_of(source: Source) -> list[str]:
    """Every operation that a program calls, once each."""
    program = source.program
    lists = [program.steps, *program.programs.values()]
    calls = [call for steps in lists for step in _all(steps) for call in (step.call, _stream(step).call)]
    return list(dict.fromkeys(call for call in calls if call is not UNSET))


def check(
    source: Source, operations: Operations, limits: Limits, allowed: Sequence[str] = ("*",)
) -> list[Problem]:
    """All problems, in the order of the text."""
    return sorted(_Checker(source, operations, limits, allowed).run(), key=lambda problem: problem.line)


class _Checker:
    def __init__(self, source: Source, operations: Operations, limits: Limits, allowed: Sequence[str]) -> None:
        self._source = source
        self._program = source.program
        self._operations = operations
        self._limits = limits
        self._allowed = allowed
        self._problems: list[Problem] = []
        self._ids: dict[str, str] = {}

    def run(self) -> list[Problem]:
        view = _View(frozenset(), frozenset(("input", "steps", "registers")))
        self._steps(self._program.steps, "steps", view)
        for name, steps in self._program.programs.items():
            self._ids = {}
            self._steps(steps, f"programs.{name}", view)
        self._refuse_cycles()
        return self._problems

    def _say(self, path: str, message: str) -> None:
        self._problems.append(Problem(self._source.line(path), path, message))

    def _steps(self, steps: Sequence[Step], path: str, view: _View) -> frozenset[str]:
        if view.depth > self._limits.depth:
            self._say(path, f"nested deeper than {self._limits.depth}")
            return view.ids
        for index, step in enumerate(steps):
            where = f"{path}[{index}]"
            self._step(step, where, view)
            if step.id is not None:
                if step.id in self._ids:
                    self._say(f"{where}.id", f"the id {step.id!r} is taken by {self._ids[step.id]}")
                self._ids[step.id] = where
                view = msgspec.structs.replace(view, ids=view.ids | {step.id})
        return view.ids

    def _step(self, step: Step, path: str, view: _View) -> None:
        actions = step.actions
        if len(actions) != 1:
            given = " and ".join(actions) or "none"
            self._say(path, f"a step is exactly one of {', '.join(ACTIONS)}; this has {given}")
            return
        self._references(step.if_, f"{path}.if", view)
        if isinstance(step.wait, WaitFor):
            self._event(step.wait, f"{path}.wait", view)
        elif isinstance(step.for_each, Stream):
            stream = _stream(step)
            for name, value in stream.with_.items():
                self._references(value, f"{path}.for_each.with.{name}", view)
            self._bound(stream, f"{path}.for_each")
            self._call(stream, step.for_each.call, f"{path}.for_each")
        elif actions[0] in ("for_each", "set", "wait", "return"):
            self._references(getattr(step, ACTIONS[actions[0]]), f"{path}.{actions[0]}", view)
        for name, value in step.with_.items():
            self._references(value, f"{path}.with.{name}", view)
        self._parts(step, path, actions[0])
        self._codes(step, path)
        if actions[0] in ("set", "return") and view.concurrent:
            self._say(f"{path}.{actions[0]}", f"{actions[0]} is left to chance where steps run at the same time")
        if step.call is not UNSET:
            self._call(step, step.call, path)
        self._inner(step, path, view)

    def _parts(self, step: Step, path: str, action: str) -> None:
        """Keys that mean nothing to this action."""
        if step.with_ and action not in ("call", "program"):
            self._say(f"{path}.with", f"{action} takes no `with`")
        if (step.do is UNSET) == (action == "for_each"):
            self._say(path, "for_each needs `do`" if action == "for_each" else f"{action} takes no `do`")
        if step.parallelism is not UNSET and action not in ("for_each", "parallel"):
            self._say(f"{path}.parallelism", f"{action} does one thing: it takes no `parallelism`")
        if step.retry is not None and action != "call":
            self._say(f"{path}.retry", f"only a call is tried again, not {action}")
        if step.parallelism is not UNSET and step.parallelism > self._limits.parallelism:
            limit = self._limits.parallelism
            self._say(f"{path}.parallelism", f"{step.parallelism} is above the limit of {limit}")
        if step.collect is not UNSET and action != "call":
            self._say(f"{path}.collect", f"only a call of a stream takes `collect`, not {action}")
        self._bound(step, path)
        if isinstance(step.wait, str) and not any(True for _ in references_in(step.wait)):
            self._say(f"{path}.wait", f"{step.wait!r} is not a number of seconds")
        if isinstance(step.for_each, str) and not any(True for _ in references_in(step.for_each)):
            self._say(f"{path}.for_each", f"{step.for_each!r} is not a list: refer to one")

    def _bound(self, step: Step, path: str) -> None:
        if step.collect is not UNSET and step.collect.items > self._limits.items:
            self._say(f"{path}.collect.items", f"{step.collect.items} is above the limit of {self._limits.items}")

    def _event(self, wait: WaitFor, path: str, view: _View) -> None:
        self._references(wait.event, f"{path}.event", view)
        self._references(wait.where, f"{path}.where", msgspec.structs.replace(view, roots=view.roots | {"event"}))
        if any(True for _ in references_in(wait.event)):
            return  # Known only when it runs.
        if not wait.event or "*" in wait.event[:-1]:
            self._say(f"{path}.event", f"{wait.event!r} is no topic: a name, or a beginning followed by one '*'")
        elif not is_allowed(wait.event, self._allowed):
            allowed = ", ".join(self._allowed)
            self._say(f"{path}.event", f"{wait.event} may not be waited for here; allowed: {allowed}")

    def _codes(self, step: Step, path: str) -> None:
        for part, codes in (("retry", step.retry and step.retry.on), ("catch", step.catch and step.catch.on)):
            for code in codes or ():
                if code not in CODES:
                    self._say(f"{path}.{part}.on", f"no status code {code!r}{nearest(code, CODES)}")

    def _inner(self, step: Step, path: str, view: _View) -> None:
        deeper = msgspec.structs.replace(view, depth=view.depth + 1)
        if step.do is not UNSET:
            many = step.parallelism is not UNSET and step.parallelism > 1
            body = msgspec.structs.replace(
                deeper, roots=view.roots | {"item", "index"}, concurrent=view.concurrent or many
            )
            self._steps(step.do, f"{path}.do", body)
        if step.parallel is not UNSET:
            for index, steps in enumerate(step.parallel):
                self._steps(steps, f"{path}.parallel[{index}]", msgspec.structs.replace(deeper, concurrent=True))
        if step.catch is not None:
            caught = msgspec.structs.replace(deeper, roots=view.roots | {"error"})
            self._steps(step.catch.do, f"{path}.catch.do", caught)
        if step.program is not UNSET:
            if step.program not in self._program.programs:
                hint = nearest(step.program, self._program.programs)
                self._say(f"{path}.program", f"no program {step.program!r}{hint}")
            elif view.concurrent and any(inner.set is not UNSET for inner in self._reached(step.program, set())):
                self._say(f"{path}.program", f"{step.program} sets registers while other steps run")

    def _call(self, step: Step, operation: str, path: str) -> None:
        if not is_allowed(operation, self._allowed):
            self._say(f"{path}.call", f"{operation} may not be called here; allowed: {', '.join(self._allowed)}")
            return
        found = self._operations.get(operation, f"no operation {operation!r}")
        if isinstance(found, str):
            self._say(f"{path}.call", found)
            return
        if found.streaming and step.collect is UNSET:
            self._say(f"{path}.call", f"{operation} is a stream: say how much of it to `collect`")
        if not found.streaming and step.collect is not UNSET:
            self._say(f"{path}.collect", f"{operation} is not a stream: it has one result")
        for name, problem in mismatches(step.with_, found.input):
            self._say(f"{path}.with.{name}" if name else f"{path}.call", f"{operation}: {problem}")

    def _references(self, value: Json, path: str, view: _View) -> None:
        for expression in references_in(value):
            try:
                names = names_in(expression)
            except InvalidArgument as error:
                self._say(path, error.message)
                continue
            for root, name in sorted(names):
                if root not in ROOTS:
                    self._say(path, f"${{{{ {root} }}}} is not known here; known: {', '.join(sorted(view.roots))}")
                elif root not in view.roots:
                    self._say(path, f"{root} is known only in {_PLACES.get(root, 'the `do` of a for_each')}")
                elif root == "steps" and name and name not in view.ids:
                    known = ", ".join(sorted(view.ids)) or "none"
                    self._say(path, f"no step {name!r} has ended before this one; known here: {known}")

    def _refuse_cycles(self) -> None:
        for name in self._program.programs:
            if any(step.program == name for step in self._reached(name, set())):
                self._say(f"programs.{name}", f"the program {name} comes back to itself: the loop has no bound")

    def _reached(self, name: str, seen: set[str]) -> Iterable[Step]:
        """All steps of a sub-program and of those it runs."""
        if name in seen or name not in self._program.programs:
            return
        seen.add(name)
        for step in _all(self._program.programs[name]):
            yield step
            if step.program is not UNSET:
                yield from self._reached(step.program, seen)


def _stream(step: Step) -> Step:
    """The call to the stream that a step deals with, if it does."""
    stream = step.for_each
    if not isinstance(stream, Stream):
        return Step()
    return Step(call=stream.call, with_=stream.with_, collect=stream.collect)


def _all(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        for inner in (
            [] if step.do is UNSET else step.do,
            *([] if step.parallel is UNSET else step.parallel),
            [] if step.catch is None else step.catch.do,
        ):
            yield from _all(inner)
