"""The nodes of a parsed expression. Plain data; `evaluator` and the algebra unit give them meaning."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

__all__ = [
    "Assign", "Binary", "Call", "Define", "Expression", "Index", "List", "Name", "Number", "Postfix", "Prefix",
    "Statement",
]  # fmt: skip


@dataclass(slots=True)
class Number:
    """A literal. Exact: 0.1 is 1/10."""

    value: int | Fraction


@dataclass(slots=True)
class Name:
    text: str


@dataclass(slots=True)
class Prefix:
    """operator: `-`, `+` or `not`."""

    operator: str
    operand: Expression


@dataclass(slots=True)
class Postfix:
    """operator: `!` or `%`."""

    operator: str
    operand: Expression


@dataclass(slots=True)
class Binary:
    """operator: as written, with `**` as `^`, `in` and `->` as `to`, implied multiplication as `*`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(slots=True)
class Call:
    function: str
    arguments: list[Expression]


@dataclass(slots=True)
class List:
    """`[1, 2]`; `[1, 2; 3, 4]` is a list of lists."""

    items: list[Expression]


@dataclass(slots=True)
class Index:
    """`v[1]` or `m[1, 2]`, counted from 1."""

    target: Expression
    indices: list[Expression]


@dataclass(slots=True)
class Assign:
    name: str
    value: Expression


@dataclass(slots=True)
class Define:
    name: str
    parameters: list[str]
    body: Expression


Expression: TypeAlias = Number | Name | Prefix | Postfix | Binary | Call | List | Index
Statement: TypeAlias = Expression | Assign | Define
