"""The storage unit against a plain dictionary, under random operations, expiry and restarts."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smol.errors import Aborted, AlreadyExists, NotFound, ResourceExhausted, SmolError
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment
from smol.units.storage.records import Action
from smol.units.storage.unit import Storage

T = TypeVar("T")
MAX_BYTES = 400
KEYS = st.sampled_from(["a", "b", "b/1", "ö", "\U0010ffff"])
COLLECTIONS = st.sampled_from(["one", "two"])
VALUES = st.one_of(
    st.integers(-5, 5), st.text(max_size=5), st.just("x" * 60), st.binary(max_size=40).map(Attachment)
)
VERSIONS = st.sampled_from(["any", "any", "right", "none", "wrong"])


@dataclass
class Kept:
    value: Any
    version: int
    expires_at: float | None

    @property
    def size(self) -> int:
        if isinstance(self.value, Attachment):
            return len(self.value)
        return len(json.dumps(self.value, ensure_ascii=False).encode())


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1000.0
        self.kept: dict[tuple[str, str], Kept] = {}
        self.last = 0
        self.watched: dict[tuple[str, str], int] = {}
        self.seen = 0
        self.open()

    def open(self) -> None:
        environment = Environment(
            unit="storage",
            log=logging.getLogger("test"),
            data_dir=self.folder,
            cache_dir=self.folder,
            settings={"max_bytes": MAX_BYTES, "synchronous": "NORMAL"},
        )
        self.context = Context(environment)
        self.storage = Storage(lambda: self.now)
        self.run(self.storage.provision(self.context))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.storage.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    def live(self) -> dict[tuple[str, str], Kept]:
        return {
            where: kept
            for where, kept in self.kept.items()
            if kept.expires_at is None or kept.expires_at > self.now
        }

    def expected_version(self, where: tuple[str, str], choice: str) -> int | None:
        kept = self.live().get(where)
        return {"any": None, "right": kept.version if kept else 0, "none": 0, "wrong": 10**9}[choice]

    def refusal(self, where: tuple[str, str], expected: int | None) -> type[SmolError] | None:
        kept = self.live().get(where)
        if expected is None or expected == (kept.version if kept else 0):
            return None
        return AlreadyExists if expected == 0 else Aborted if kept else NotFound

    def attempt(self, work: Coroutine[Any, Any, T], refusal: type[SmolError] | None) -> T | None:
        try:
            result = self.run(work)
        except SmolError as error:
            assert refusal is not None, error
            assert type(error) is refusal
            return None
        assert refusal is None
        return result

    @rule(collection=COLLECTIONS, key=KEYS, value=VALUES, choice=VERSIONS, ttl=st.sampled_from([None, None, 5.0]))
    def put(self, collection: str, key: str, value: Any, choice: str, ttl: float | None) -> None:
        where = (collection, key)
        expected = self.expected_version(where, choice)
        fresh = Kept(value, 0, None if ttl is None else self.now + ttl)
        refusal = self.refusal(where, expected)
        # What has expired and was not swept still fills the store.
        growth = fresh.size - (self.kept[where].size if where in self.kept else 0)
        if refusal is None and growth > 0 and growth + sum(kept.size for kept in self.kept.values()) > MAX_BYTES:
            refusal = ResourceExhausted
        attached = {"attachment": value} if isinstance(value, Attachment) else {"value": value}
        created = where not in self.live()
        written = self.attempt(
            self.storage.put(
                self.context, key, collection=collection, expected_version=expected, ttl_seconds=ttl, **attached
            ),
            refusal,
        )
        if written is not None:
            assert written.version == self.last + 1
            assert (written.created, written.bytes) == (created, fresh.size)
            fresh.version = self.last = written.version
            self.kept[where] = fresh

    @rule(collection=COLLECTIONS, key=KEYS, choice=VERSIONS)
    def delete(self, collection: str, key: str, choice: str) -> None:
        where = (collection, key)
        expected = self.expected_version(where, choice)
        existed = where in self.live()
        deleted = self.attempt(
            self.storage.delete(self.context, key, collection, expected), self.refusal(where, expected)
        )
        if deleted is not None:
            assert deleted.existed == existed
            if existed:
                self.last = deleted.version
                del self.kept[where]

    @rule(data=st.lists(st.tuples(COLLECTIONS, KEYS, st.booleans()), min_size=1, max_size=4), fails=st.booleans())
    def batch(self, data: list[tuple[str, str, bool]], fails: bool) -> None:
        actions = [
            Action(do="put" if put else "delete", collection=collection, key=key, value=7 if put else None)
            for collection, key, put in data
        ]
        if fails:
            actions.append(Action(do="check", key="nowhere"))
        free = MAX_BYTES - sum(kept.size for kept in self.kept.values())
        if not fails and free < len(data):
            return
        done = self.attempt(self.storage.batch(self.context, actions), NotFound if fails else None)
        for action, outcome in zip(actions, done or [], strict=False):
            where = (action.collection, action.key)
            assert outcome.existed == (where in self.live())
            self.last = max(self.last, outcome.version)
            if action.do == "put":
                self.kept[where] = Kept(7, outcome.version, None)
            elif outcome.existed:
                del self.kept[where]

    @rule(seconds=st.sampled_from([1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        expired = len(self.kept) - len(self.live())
        assert self.run(self.storage.sweep()) == expired
        self.kept = self.live()
        self.last += expired

    @rule()
    def restart(self) -> None:
        self.run(self.storage.close())
        self.open()

    @rule()
    def watch(self) -> None:
        """What a watcher pieces together from changes is what is there."""
        changes, self.seen = self.run(self.storage._changes(self.seen, None, "", True))
        assert [change.sequence for change in changes] == sorted(change.sequence for change in changes)
        for change in changes:
            where = (change.collection, change.key)
            self.watched.pop(where, None)
            if not change.deleted:
                self.watched[where] = change.sequence
        live = {where: kept.version for where, kept in self.live().items()}
        unswept = set(self.kept) - set(live)
        assert {where: version for where, version in self.watched.items() if where not in unswept} == live

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        live = self.live()
        for collection in ("one", "two"):
            page = self.run(self.storage.list(collection))
            assert [entry.key for entry in page.entries] == sorted(key for name, key in live if name == collection)
            assert page.sequence == self.last
            for entry in page.entries:
                kept = live[collection, entry.key]
                assert (entry.version, entry.expires_at) == (kept.version, kept.expires_at)
                item = self.run(self.storage.get(entry.key, collection))
                assert kept.value == (item.value if item.attachment is None else item.attachment)
        status = self.run(self.storage.status())
        assert (status.items, status.bytes) == (len(self.kept), sum(kept.size for kept in self.kept.values()))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
