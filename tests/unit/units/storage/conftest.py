from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from smol.sdk import Context
from smol.sdk.context import Environment
from smol.units.storage.unit import Storage


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Storage, Context]]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opened:
    """Opens the storage unit with the given settings; again on the same files when called again."""

    @asynccontextmanager
    async def open_storage(key: str = "", **settings: Any) -> AsyncIterator[tuple[Storage, Context]]:
        environment = Environment(
            unit="storage", log=logging.getLogger("test"), data_dir=tmp_path, cache_dir=tmp_path, settings=settings
        )
        storage = Storage(clock)
        try:
            context = Context(environment, key=key)
            await storage.provision(context)
            yield storage, context
        finally:
            await storage.close()

    return open_storage
