"""Pictures: from bytes to tensors, from tensors to boxes, and drawn boxes back to bytes.

Knows neither models nor engines: sizes, colour order and thresholds are given to it.
"""

from smol.vision.boxes import HEADS, Boxes, Head, suppress
from smol.vision.decode import DEFAULT_MAX_PIXELS, Picture, decode
from smol.vision.draw import annotate
from smol.vision.preprocess import Placement, Preprocessor

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "HEADS",
    "Boxes",
    "Head",
    "Picture",
    "Placement",
    "Preprocessor",
    "annotate",
    "decode",
    "suppress",
]
