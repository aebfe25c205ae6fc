"""Smol: a local AI appliance in one small box.

`connect` and `local` are loaded on first use, so that `import smol` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from smol.errors import SmolError
from smol.types import Attachment

if TYPE_CHECKING:
    from smol.client import connect, local

__all__ = ["Attachment", "SmolError", "__version__", "connect", "local"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in {"connect", "local"}:
        return getattr(importlib.import_module("smol.client"), name)
    raise AttributeError(f"module 'smol' has no attribute {name!r}")
