"""What a unit is given: by its host for its life, by its caller for a call."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from smol.types import Json

__all__ = ["Context", "Environment", "Link"]


class Link:
    """A way from a call to the rest of the system. The base class leads nowhere, which is fine for tests."""

    async def call(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str, key: str = ""
    ) -> Json:
        """Call an operation of another unit. key: idempotency key."""
        raise NotImplementedError(f"{operation} can't be called: this context is not connected to a host")

    def stream(
        self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float, trace: str
    ) -> AsyncIterator[Json]:
        """Call a streaming operation of another unit."""
        raise NotImplementedError(f"{operation} can't be called: this context is not connected to a host")

    def wait(self, operation: str, arguments: Mapping[str, Any], deadline_seconds: float) -> Json:
        """`call`, for threads: blocks until the answer is there."""
        raise NotImplementedError(f"{operation} can't be called: this context is not connected to a host")

    def progress(self, call_id: int, fraction: float, message: str) -> None:
        """Tell the caller of `call_id` how far its call has come."""

    def publish(self, topic: str, data: Json) -> None:
        """Tell whoever subscribed to `topic`."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit has for its life.

    settings: its own table `[units.NAME]` of smol.toml.
    data_dir: a directory of its own for what must be kept; cache_dir: for what may be lost.
    """

    unit: str
    log: Any
    data_dir: Any
    cache_dir: Any
    settings: dict[str, Any] = {}
    link: Any = Link()


class Context:
    """What an operation knows of its call, and what it may ask of the system."""

    __slots__ = ("_call_id", "_environment", "caller", "cancelled", "deadline", "key", "repeatable",
                 "trace")  # fmt: skip

    def __init__(
        self,
        environment: Environment,
        *,
        call_id: int = 0,
        deadline: float | None = None,
        trace: str = "",
        key: str = "",
        caller: str = "",
        repeatable: bool = False,
    ) -> None:
        self._environment = environment
        self._call_id = call_id
        self.deadline = deadline
        """When the call must be over, on `time.monotonic`'s clock; None for never."""
        self.cancelled = False
        """Whether nobody waits for the answer any more; a thread should look at it between steps."""
        self.trace = trace
        """W3C traceparent of the call, or an empty string."""
        self.key = key
        """Idempotency key of the call, or an empty string."""
        self.caller = caller
        """The worker that calls, or an empty string for a client."""
        self.repeatable = repeatable
        """Whether the operation is idempotent, so that the host may make the call again."""

    @property
    def log(self) -> logging.Logger:
        return self._environment.log  # type: ignore[no-any-return]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The unit's own table of smol.toml."""
        return self._environment.settings

    @property
    def data_dir(self) -> Path:
        """The unit's directory for what must be kept; made on first use."""
        return _made(self._environment.data_dir)

    @property
    def cache_dir(self) -> Path:
        """A directory shared by all units for what may be lost and made again, such as models."""
        return _made(self._environment.cache_dir)

    def deadline_seconds(self) -> float | None:
        """Time left until the deadline, 0 or more; None for no deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    async def call(self, operation: str, /, *, within_seconds: float = 60.0, **arguments: Any) -> Json:
        """Call an operation of another unit, within this call's deadline. Raises the SmolError it answers."""
        return await self.call_with(operation, arguments, within_seconds=within_seconds)

    async def call_with(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float = 60.0, key: str = ""
    ) -> Json:
        """`call`, with the arguments as a mapping, so that none can clash with a parameter of ours.

        key: idempotency key, handed to the operation as `context.key`.
        """
        link: Link = self._environment.link
        return await link.call(operation, arguments, self._remaining(within_seconds), self.trace, key)

    def stream(self, operation: str, /, *, within_seconds: float = 60.0, **arguments: Any) -> AsyncIterator[Json]:
        """Call a streaming operation of another unit, within this call's deadline."""
        link: Link = self._environment.link
        return link.stream(operation, arguments, self._remaining(within_seconds), self.trace)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell the caller how far this call has come; fraction: 0 to 1, below 0 when unknown. Thread-safe."""
        self._environment.link.progress(self._call_id, fraction, message)

    @contextlib.contextmanager
    def loading(self, model: str, forms: Sequence[Mapping[str, Json]]) -> Iterator[str]:
        """Reserve memory for a model, in a thread; in the body of `with`, load the variant that it gives.

        forms: the variants that would do, best first, each with `name` and `bytes` (in use), and where known
        `load_bytes` (while loading), `engine` and `threads`. Raises ResourceExhausted when none has room.
        """
        link: Link = self._environment.link
        arguments = {
            "unit": self._environment.unit,
            "model": model,
            "forms": list(forms),
            "repeatable": self.repeatable,
        }
        try:
            admitted: Any = link.wait("memory.reserve", arguments, self._remaining(60.0))
        except NotImplementedError:  # No host, no budget.
            yield str(forms[0]["name"])
            return
        settled = {"ticket": admitted["ticket"], "loaded": False}
        try:
            yield admitted["variant"]
            settled["loaded"] = True
        finally:
            link.wait("memory.settle", settled, 10.0)

    def unloaded(self, model: str) -> None:
        """Say, in a thread, that a model was let go."""
        with contextlib.suppress(NotImplementedError):
            link: Link = self._environment.link
            link.wait("memory.release", {"unit": self._environment.unit, "model": model}, 10.0)

    def publish(self, topic: str, data: Json) -> None:
        """Publish an event under `UNIT.topic`. Thread-safe."""
        self._environment.link.publish(f"{self._environment.unit}.{topic}", data)

    def _remaining(self, within_seconds: float) -> float:
        left = self.deadline_seconds()
        return within_seconds if left is None else min(within_seconds, left)


def _made(path: Path) -> Path:
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path
