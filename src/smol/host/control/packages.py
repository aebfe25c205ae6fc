"""The `packages` unit: sets of Python packages for sandboxes, made ahead of the code that imports them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from smol.errors import FailedPrecondition
from smol.host.packages import Packages as Sets
from smol.host.packages import PackageSet
from smol.sdk import Context, operation
from smol.sdk.unit import Unit

__all__ = ["Packages"]

_DAY_SECONDS = 86_400.0


class Packages(Unit):
    """Sets of Python packages for sandboxes: listed, made, removed."""

    def __init__(self, sets: Sets) -> None:
        self._kept = sets

    @operation(idempotent=True)
    async def ensure(self, requirements: list[str], python: str, context: Context) -> str:
        """For units: where a set of packages is, made now if it is not there. Takes as long as an installer takes.

        requirements: such as `matplotlib==3.10.*`; taken from wheels of an index.
        python: the version to import them with, such as `3.12`.
        """
        if not context.caller:
            raise FailedPrecondition("this is for units, whose settings name packages; clients can't install any")
        return str(await self._kept.ensure(requirements, python, lambda line: context.progress(0.0, line)))

    @operation(read_only=True)
    def sets(self) -> list[PackageSet]:
        """List the sets, the last asked for first."""
        return self._kept.sets()

    @operation(destructive=True)
    async def prune(self, unused_days: Annotated[float, msgspec.Meta(ge=0)] = 30.0) -> list[PackageSet]:
        """Remove the sets that no unit has asked for lately, which it does as it starts; lists what was removed.

        unused_days: for how long.
        """
        return await self._kept.prune(unused_days * _DAY_SECONDS)
