"""What the operations answer. Plain data; it also crosses the pipe from the process that computes."""

from __future__ import annotations

import msgspec

__all__ = ["Form", "Solution", "Solutions"]


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A result in its forms.

    exact: in the calculator's syntax, to be used again; null when it is known only approximately.
    decimal: to the precision asked for; null when it contains variables.
    type: integer, rational, real, complex, infinite, boolean or expression.
    latex: the exact form in LaTeX, where there is one.
    """

    exact: str | None
    decimal: str | None
    type: str
    latex: str | None


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """values: of each variable. parameters: variables in them that stand for any integer."""

    values: dict[str, Form]
    parameters: list[str] = []


class Solutions(msgspec.Struct, frozen=True, kw_only=True):
    """variables: those solved for. complete: whether there are no others.

    always: whether every value is a solution.
    """

    variables: list[str]
    solutions: list[Solution]
    complete: bool
    always: bool = False
