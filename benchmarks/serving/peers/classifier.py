"""Pillow, NumPy and ONNX Runtime: the bytes of a picture to its most probable classes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

__all__ = ["Classify", "best", "load", "tensor"]

Classify = Callable[[bytes], list[dict[str, float]]]
Array = npt.NDArray[np.float32]


def tensor(data: bytes, spec: dict[str, Any]) -> Array:
    """A picture as the network takes it: [1, 3, side, side]. spec: side, crop, mean, std."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = spec["side"]
    scale = side / spec["crop"] / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, upper = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = np.asarray(image.crop((left, upper, left + side, upper + side)))
    values = (pixels.astype(np.float32) - spec["mean"]) / spec["std"]
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def best(logits: Array) -> list[dict[str, float]]:
    """The five most probable classes."""
    weights = np.exp(logits - logits.max())
    scores = weights / weights.sum()
    return [{"class": int(index), "score": float(scores[index])} for index in np.argsort(-scores)[:5]]


def load(described: str) -> Classify:
    """A classifier. described: JSON with file, side, crop, mean, std."""
    spec = json.loads(described)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # As Smol has it.
    session = onnxruntime.InferenceSession(spec["file"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda data: best(session.run(None, {name: tensor(data, spec)})[0][0])
