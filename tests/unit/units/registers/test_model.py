"""The registers unit against a plain dictionary, under random operations and the passing of time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smol.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted, SmolError
from smol.sdk import Context
from smol.sdk.context import Environment
from smol.units.registers.unit import Registers

T = TypeVar("T")
NAMES = st.sampled_from(["a", "b", "c", "ä"])
SCOPES = st.sampled_from(["global", "session:1", "program:1"])
VALUES = st.one_of(
    st.integers(-9, 9), st.text(max_size=4), st.lists(st.integers(0, 9), max_size=2), st.just([0] * 30)
)
PER_SCOPE = 3
MAX_BYTES = 80


class Model(RuleBasedStateMachine):
    """`kept`: scope, then name, to value, version and expiry; lists keep the order of use for LRU."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.kept: dict[str, dict[str, tuple[Any, int, float | None]]] = {
            "global": {},
            "session:1": {},
            "program:1": {},
        }
        self.version = 0
        self.registers = Registers(lambda: self.now)
        environment = Environment(
            unit="registers",
            log=logging.getLogger("test"),
            data_dir=Path(),
            cache_dir=Path(),
            settings={"scope_max_registers": PER_SCOPE, "scope_max_bytes": MAX_BYTES},
        )
        self.run(self.registers.provision(Context(environment)))
        self.run(self.registers.configure("session:1", evict="lru"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.loop.close()

    def expire(self) -> None:
        due = [
            (entry[2], entry[1], scope, name)
            for scope, names in self.kept.items()
            for name, entry in names.items()
            if entry[2] is not None and entry[2] <= self.now
        ]
        for *_, scope, name in sorted(due):
            del self.kept[scope][name]
            self.version += 1

    def store(self, scope: str, name: str, value: Any, expires_at: float | None) -> bool:
        """Put a value into the model as the contract says; False when it must be refused."""
        names = dict(self.kept[scope])
        old = names.pop(name, None)
        size, old_size = _size(value), 0 if old is None else _size(old[0])
        evicted = 0
        while scope == "session:1" and size <= MAX_BYTES and names and not _fits(names, size):
            del names[next(iter(names))]
            evicted += 1
        if (old is None and len(names) + 1 > PER_SCOPE) or (
            not _fits(names, size, PER_SCOPE + 1) and size > old_size
        ):
            return False
        self.version += 1 + evicted
        if old is not None and scope != "session:1":
            self.kept[scope][name] = (value, self.version, expires_at)
        else:
            self.kept[scope] = {**names, name: (value, self.version, expires_at)}
        return True

    def touch(self, scope: str, name: str) -> None:
        if scope == "session:1" and name in self.kept[scope]:
            self.kept[scope][name] = self.kept[scope].pop(name)

    def attempt(self, work: Coroutine[Any, Any, T], refusal: type[SmolError] | None) -> T | None:
        try:
            result = self.run(work)
        except SmolError as error:
            assert refusal is not None, error
            assert type(error) is refusal
            return None
        assert refusal is None
        return result

    @rule(
        scope=SCOPES,
        name=NAMES,
        value=VALUES,
        ttl=st.sampled_from([None, None, 5.0]),
        guard=st.sampled_from(["", "right", "new", "stale"]),
    )
    def put(self, scope: str, name: str, value: Any, ttl: float | None, guard: str) -> None:
        self.expire()
        self.touch(scope, name)
        old = self.kept[scope].get(name)
        version = old[1] if old else 0
        expected = {"right": version, "new": 0, "stale": 10**9}.get(guard)
        refusal: type[SmolError] | None = None
        if expected is not None and expected != version:
            refusal = AlreadyExists if expected == 0 else Aborted if old else NotFound
        elif old is not None and type(old[0]) is not type(value):
            refusal = FailedPrecondition
        elif not self.store(scope, name, value, None if ttl is None else self.now + ttl):
            refusal = ResourceExhausted
        if expected is None:
            self.attempt(self.registers.set(name, value, scope, ttl_seconds=ttl), refusal)
        else:
            self.attempt(self.registers.compare_and_set(name, expected, value, scope, ttl_seconds=ttl), refusal)

    @rule(scope=SCOPES, name=NAMES, by=st.integers(-3, 3))
    def increment(self, scope: str, name: str, by: int) -> None:
        self.expire()
        self.touch(scope, name)
        old = self.kept[scope].get(name)
        refusal: type[SmolError] | None = None
        if old is not None and type(old[0]) is not int:
            refusal = FailedPrecondition
        elif not self.store(scope, name, (old[0] if old else 0) + by, old[2] if old else None):
            refusal = ResourceExhausted
        self.attempt(self.registers.increment(name, by, scope), refusal)

    @rule(scope=SCOPES, name=NAMES, value=st.text(max_size=3))
    def append(self, scope: str, name: str, value: str) -> None:
        self.expire()
        self.touch(scope, name)
        old = self.kept[scope].get(name)
        refusal: type[SmolError] | None = None
        if old is not None and isinstance(old[0], int):
            refusal = FailedPrecondition
        else:
            before: Any = old[0] if old else []
            longer = before + (value if isinstance(before, str) else [value])
            if not self.store(scope, name, longer, old[2] if old else None):
                refusal = ResourceExhausted
        self.attempt(self.registers.append(name, value, scope), refusal)

    @rule(scope=SCOPES, name=NAMES)
    def delete(self, scope: str, name: str) -> None:
        self.expire()
        existed = self.kept[scope].pop(name, None) is not None
        self.version += existed
        assert self.run(self.registers.delete(name, scope)) == existed

    @rule(scope=SCOPES, name=NAMES)
    def get(self, scope: str, name: str) -> None:
        self.expire()
        self.touch(scope, name)
        kept = self.kept[scope].get(name)
        found = self.attempt(self.registers.get(name, scope), None if kept else NotFound)
        if kept and found:
            assert (found.value, found.version, found.expires_at) == kept

    @rule(seconds=st.sampled_from([1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        self.expire()
        for scope, names in self.kept.items():
            listed = self.run(self.registers.list(scope))
            assert [(register.name, register.value, register.version) for register in listed] == [
                (name, names[name][0], names[name][1]) for name in sorted(names)
            ]
        total = sum(_size(value) for names in self.kept.values() for value, _, _ in names.values())
        assert sum(info.bytes for info in self.run(self.registers.scopes())) == total
        assert self.registers._memory.size_bytes == total
        assert self.registers._memory.sequence == self.version


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _fits(names: dict[str, tuple[Any, int, float | None]], size: int, count: int = PER_SCOPE) -> bool:
    return len(names) + 1 <= count and sum(_size(value) for value, _, _ in names.values()) + size <= MAX_BYTES


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
