"""What a unit is written with. Importing it loads no event loop, no numpy and no network code."""

from smol.sdk.context import Context
from smol.sdk.metrics import Metric
from smol.sdk.unit import Unit, operation
from smol.sdk.uses import uses
from smol.types import Attachment

__all__ = ["Attachment", "Context", "Metric", "Unit", "operation", "uses"]
