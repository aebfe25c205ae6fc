"""Environments of the settings: directories of packages, and lists of packages that the host makes into such."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from smol.errors import FailedPrecondition, InvalidArgument, SmolError, Unavailable, nearest
from smol.sandbox.kinds import open_to_all
from smol.sdk import Context

__all__ = ["EnvironmentInfo", "Environments"]

State: TypeAlias = Literal["ready", "making", "failed"]
_MAKE_SECONDS = 3600.0


class EnvironmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An environment and how it is. packages: what it is made of; empty for a directory of one's own.

    path: where the packages are, once they are. problem: why not.
    """

    name: str
    state: State
    packages: list[str] = []
    path: str = ""
    problem: str = ""


class Environments:
    """Those of one unit's settings. `begin` lets the host make what is missing, beside the unit's work."""

    def __init__(self, named: Mapping[str, str | list[str]]) -> None:
        self._named = named
        self._infos = {name: _first_info(name, given) for name, given in named.items()}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._python = ""
        self._closed_to_others = False

    def begin(self, life: Context, python: str, *, closed_to_others: bool) -> None:
        """Make those that are missing.

        life: a context that lasts as long as the unit. python: the version in the sandboxes, such as `3.12`.
        closed_to_others: whether sandboxes see the host's files as another user.
        """
        self._python = python
        self._closed_to_others = closed_to_others
        for name, given in self._named.items():
            if not isinstance(given, str):
                self._start(life, name)

    def give_up(self, problem: str) -> None:
        """Make none, for a reason."""
        for name, info in self._infos.items():
            if info.state == "making":
                self._infos[name] = msgspec.structs.replace(info, state="failed", problem=problem)

    def _start(self, life: Context, name: str) -> None:
        self._infos[name] = msgspec.structs.replace(self._infos[name], state="making", problem="")
        self._making[name] = asyncio.get_running_loop().create_task(self._make(life, name))

    async def _make(self, life: Context, name: str) -> None:
        info = self._infos[name]
        try:
            path = await life.call(
                "packages.ensure",
                within_seconds=_MAKE_SECONDS,
                requirements=info.packages,
                python=self._python,
            )
            if self._closed_to_others and not open_to_all(path):
                raise FailedPrecondition(
                    f"{path} can't be read by the user that sandboxes run as here; let SMOL_HOME be a place that "
                    "is open to all"
                )
        except SmolError as error:
            life.log.warning("environment %s can't be made: %s", name, error.message)
            self._infos[name] = msgspec.structs.replace(info, state="failed", problem=error.message)
        else:
            self._infos[name] = msgspec.structs.replace(info, state="ready", path=path)

    def infos(self) -> list[EnvironmentInfo]:
        """All of them, by name."""
        return [info for _, info in sorted(self._infos.items())]

    async def make(self, life: Context, name: str) -> EnvironmentInfo:
        """Wait until one is ready; one that failed is tried again. Raises what `path` raises."""
        info = self._find(name)
        if info.state == "failed" and info.packages:
            self._start(life, name)
        if name in self._making:
            await asyncio.shield(self._making[name])
        self.path(name)
        return self._infos[name]

    def path(self, name: str) -> Path:
        """Where one's packages are. Raises InvalidArgument, FailedPrecondition, Unavailable while it is made."""
        info = self._find(name)
        if info.state == "making":
            raise Unavailable(
                f"environment {name!r} is being made; code.environment_make waits for it", retry_after_ms=5000
            )
        if info.state == "failed":
            raise FailedPrecondition(
                f"environment {name!r} could not be made: {info.problem}\ncode.environment_make tries again"
            )
        return Path(info.path)

    def _find(self, name: str) -> EnvironmentInfo:
        info = self._infos.get(name)
        if info is None:
            known = ", ".join(sorted(self._infos)) or "none"
            raise InvalidArgument(
                f"no environment {name!r} in [units.code.environments]{nearest(name, self._infos)}; known: {known}"
            )
        return info

    async def close(self) -> None:
        """Let go of what is being made."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)


def _first_info(name: str, given: str | list[str]) -> EnvironmentInfo:
    """Raises InvalidArgument for a directory that is none."""
    if isinstance(given, str):
        if not os.path.isdir(given):
            raise InvalidArgument(f"[units.code.environments] {name}: {given} is no directory of Python packages")
        return EnvironmentInfo(name=name, state="ready", path=given)
    if not given:
        raise InvalidArgument(f"[units.code.environments] {name}: name at least one package")
    return EnvironmentInfo(name=name, state="making", packages=given)
