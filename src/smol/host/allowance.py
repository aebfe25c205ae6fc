"""The memory that Smol may use, why so much, and who sees to it."""

from __future__ import annotations

import contextlib
import logging
import os

from smol.host.enforcement import Enforcement, Guarantee, enforce, release
from smol.host.limits import Budget, choose_budget
from smol.host.memory import set_oom_score_adj

__all__ = ["Allowance"]

_log = logging.getLogger("smol.host")

_ANY_BYTES = 1 << 60
_HOST_OOM_SCORE = -500
"""Whom the kernel ends first when the budget is used up: a worker, never the host."""


class Allowance:
    """The budget in force for this process and all that it starts; a context manager.

    Take it first thing: what was used before is counted elsewhere. Leave it when all processes have ended.
    """

    def __init__(self, configured_bytes: int) -> None:
        self._most = choose_budget(_ANY_BYTES)  # Looked for now: our own limit is no reason later.
        self.budget: Budget = choose_budget(configured_bytes)
        self.enforcement: Enforcement = enforce(self.budget.bytes)
        self._enforced_bytes = self.budget.bytes
        set_oom_score_adj(os.getpid(), _HOST_OOM_SCORE)

    def __enter__(self) -> Allowance:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not release(self.enforcement):
            _log.warning("processes are left in %s", self.enforcement.means)

    @property
    def is_hard(self) -> bool:
        """Whether the kernel itself keeps the budget."""
        return self.enforcement.guarantee is Guarantee.HARD

    @property
    def peak_bytes(self) -> int:
        """The most that was ever in use, as the kernel counted it; 0 when it does not."""
        tree = self.enforcement.tree
        return (tree.top.peak_bytes() or 0) if tree is not None else 0

    def choose(self, configured_bytes: int) -> Budget:
        """Another budget, or what there can be of it; the kernel is told by `follow`."""
        ordered = Budget(configured_bytes, "as ordered while running")
        self.budget = min(ordered, self._most, key=lambda budget: budget.bytes)
        return self.budget

    def follow(self, size_bytes: int, used_bytes: int) -> None:
        """Let the kernel enforce `size_bytes`, once no more is in use."""
        tree = self.enforcement.tree
        if tree is not None and size_bytes != self._enforced_bytes and used_bytes < size_bytes:
            with contextlib.suppress(OSError):
                tree.set_budget(size_bytes)
                self._enforced_bytes = size_bytes
