"""Arguments that make an operation call another one for its caller, who must be allowed to call that too.

`stored: Annotated[dict[str, str] | None, uses("storage.get")]` says so in the operation's schema, as
`"x-smol-uses": "storage.get"`. Whoever holds a caller to a list of operations, asks `used_by`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from smol.protocol.messages import OperationDescription

__all__ = ["used_by", "uses"]

_MARK = "x-smol-uses"


def uses(operation: str) -> msgspec.Meta:
    """The annotation of a parameter."""
    return msgspec.Meta(extra_json_schema={_MARK: operation})


def used_by(operation: OperationDescription, arguments: Mapping[str, Any]) -> list[str]:
    """The operations that a call with these arguments would make for its caller."""
    parameters = operation.input.get("properties", {})
    marked = ((name, schema.get(_MARK)) for name, schema in parameters.items())
    return [used for name, used in marked if used and arguments.get(name)]
