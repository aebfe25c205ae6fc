"""An int8 form of an ONNX network: which of its layers lose precision, and how much of it.

Three kinds of convolutions stay in float, together a few hundredths of the weights, because they carry most of the
error: the first, which sees the pixels themselves; those of each channel on its own (depthwise), whose channels
differ in range by orders of magnitude and share one scale of activations; and those that a detector ends in, whose
numbers are boxes and scores, with what follows them. Covers no measuring of the result.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from smol.engines import Array
from smol.engines.onnx import OnnxEngine
from smol.errors import FailedPrecondition

__all__ = ["kept_in_float", "write_int8"]

_CHANNELS_FROM_OPSET = 13
_LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators with weights."""


def write_int8(source: Path, target: Path, tensors: Iterable[Array], *, keep_last: bool) -> None:
    """Quantise with ranges from `tensors`, read one at a time.

    keep_last: whether the last convolutions stay in float.
    Weights have a scale for each output channel and 7 bits: with 8, processors that have AVX2 and no VNNI
    saturate as they add products of signed and unsigned bytes. Raises FailedPrecondition when it can't be done.
    """
    tool: Any = importlib.import_module("onnxruntime.quantization")
    name = OnnxEngine.load(source, threads=1).inputs[0].name

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc]  # It has no types.
        def __init__(self) -> None:
            self._left = iter(tensors)

        def get_next(self) -> dict[str, Array] | None:
            tensor = next(self._left, None)
            return None if tensor is None else {name: tensor}

    try:
        with _quiet():  # It warns of a step that changes nothing here.
            folded = _folded(source, target.parent)
            tool.quantize_static(
                folded,
                target,
                Reader(),
                quant_format=tool.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm"],
                nodes_to_exclude=kept_in_float(importlib.import_module("onnx").load(folded), keep_last),
                per_channel=True,
                reduce_range=True,
                activation_type=tool.QuantType.QUInt8,
                weight_type=tool.QuantType.QInt8,
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
            )
    except Exception as error:  # The tool's errors share no base class.
        raise FailedPrecondition(f"{source.name} can't be quantised: {error}") from error


def kept_in_float(model: Any, keep_last: bool = True) -> list[str]:
    """Names of the convolutions of a ModelProto that stay in float: the first, depthwise and maybe last ones."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    outputs = {output.name for output in model.graph.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [
        node.name
        for place, node in enumerate(convolutions)
        if place == 0 or _groups(node) > 1 or (keep_last and _reaches(node, outputs, readers))
    ]


def _groups(node: Any) -> int:
    return next((int(each.i) for each in node.attribute if each.name == "group"), 1)


def _reaches(node: Any, outputs: set[str], readers: dict[str, list[Any]]) -> bool:
    """Whether the values of a node come out of the model without going through another layer."""
    seen: set[str] = set()
    left = list(node.output)
    while left:
        value = left.pop()
        if value in outputs:
            return True
        if value not in seen:
            seen.add(value)
            left += [out for each in readers.get(value, ()) if each.op_type not in _LAYERS for out in each.output]
    return False


def _folded(source: Path, directory: Path) -> Path:
    """The model with constants folded, such as weights stored as halves, and a name for every node."""
    onnx: Any = importlib.import_module("onnx")
    preparing: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
    modern, folded = directory / "modern.onnx", directory / "folded.onnx"
    onnx.save(_modern(onnx, source), modern)
    preparing.quant_pre_process(modern, folded, skip_symbolic_shape=True)
    model = onnx.load(folded)
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}.{place}"  # The tool tells nodes by their names, which files may lack.
    onnx.save(model, folded)
    return folded


def _modern(onnx: Any, source: Path) -> Any:
    """The model with operators that know scales of each channel."""
    model = onnx.load(source, load_external_data=False)
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if versions and versions[0] < _CHANNELS_FROM_OPSET:
        converter: Any = importlib.import_module("onnx.version_converter")
        return converter.convert_version(model, _CHANNELS_FROM_OPSET)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings on the root logger, to which the tool writes."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
