"""What a unit counts of itself, for whoever watches the machine."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

__all__ = ["Metric"]

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure. An operation `metrics` that returns a list of them is read for `/metrics` while its unit runs.

    name: letters, digits and underscores; shown as `smol_UNIT_NAME`, a counter with `_total` after it.
    help: a sentence. value: in base units: bytes, seconds. kind: a counter only grows.
    labels: the same names for all of a name.
    """

    name: Name
    help: str
    value: float
    kind: Literal["gauge", "counter"] = "gauge"
    labels: dict[Name, str] = {}
