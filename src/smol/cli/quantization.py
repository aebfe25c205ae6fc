"""`smol models quantize`: an int8 variant of a model, made and measured on the user's own pictures.

Static, of convolutions only, weights of each channel with 7 bits: with 8, processors that have AVX2 and no
VNNI saturate. Covers agreement with the original, not accuracy: that would need pictures with right answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from smol.cli.probe import probe
from smol.engines import Array
from smol.engines.onnx import OnnxEngine
from smol.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, SmolError
from smol.models import Library, Model, Store, Variant
from smol.vision import HEADS, Boxes, Preprocessor, decode, suppress

__all__ = ["Measured", "quantize"]

MIN_PICTURES, MAX_PICTURES = 8, 128
"""Half of the pictures set the ranges; the other half is what is measured."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
_CHANNELS_FROM_OPSET = 13
_THRESHOLD = 0.4
_SAME_OVERLAP = 0.5


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """agreement: part of the pictures with the same best class, or of boxes that both found, 0 to 1."""

    variant: str
    size_bytes: int
    memory_bytes: int
    median_ms: float
    agreement: float


def quantize(model: Model, variant: Variant, data: Path, library: Library, store: Store) -> list[Measured]:
    """Make, measure and register `VARIANT-int8`; figures of the original and of it.

    Raises FailedPrecondition when it can't be quantised, NotFound and InvalidArgument for the pictures.
    """
    if variant.engine != "onnx" or variant.name.endswith("-int8"):
        raise FailedPrecondition(
            f"{model.name}:{variant.name} can't be quantised: it is int8 already, or not ONNX"
        )
    if importlib.util.find_spec("onnx") is None:
        raise FailedPrecondition("quantising needs the package 'onnx': pip install smol[quantize]")
    if any(each.name == f"{variant.name}-int8" for each in model.variant):
        raise AlreadyExists(
            f"there is {model.name}:{variant.name}-int8 already; one of yours goes by: smol models remove"
        )
    OnnxEngine.warm()  # Before anything else imports the runtime, so that its telemetry is off.
    tensors = _tensors(data, Preprocessor(**msgspec.structs.asdict(variant.input)))
    original = store.obtain(variant)
    with tempfile.TemporaryDirectory(prefix="smol-quantize-") as alone:
        target = Path(alone) / "model.onnx"
        _write_int8(original, target, tensors[::2])
        small, large = OnnxEngine.load(target), OnnxEngine.load(original)
        expected, large_ms = _answers(large, tensors[1::2])
        found, small_ms = _answers(small, tensors[1::2])
        agreement = _agreement(variant, expected, found)
        content = target.read_bytes()
        if len(content) >= variant.bytes:
            raise FailedPrecondition(
                f"{model.name}:{variant.name} would not get smaller: {len(content)} bytes, not {variant.bytes}"
            )
        sha256 = hashlib.sha256(content).hexdigest()
        made = msgspec.structs.replace(
            variant,
            name=f"{variant.name}-int8",
            file=f"{sha256[:16]}.onnx",
            sha256=sha256,
            bytes=len(content),
            mirrors=(),
            embedded=False,
            imported=True,
            reserved_bytes=probe(target).reserved_bytes,
            accuracy=f"agrees with {variant.name} in {agreement:.1%}, on {len(expected)} pictures of the user's",
            output=msgspec.structs.replace(variant.output, unsure_below=None),
        )
        before = probe(original).reserved_bytes
        library.add(msgspec.structs.replace(model, variant=(made,)), target)
    return [
        Measured(
            variant=each.name,
            size_bytes=each.bytes,
            memory_bytes=memory_bytes,
            median_ms=took_ms,
            agreement=part,
        )
        for each, memory_bytes, took_ms, part in (
            (variant, before, large_ms, 1.0),
            (made, made.reserved_bytes, small_ms, agreement),
        )
    ]


def _tensors(directory: Path, prepare: Preprocessor) -> list[Array]:
    if not directory.is_dir():
        raise NotFound(f"--data {str(directory)!r} is no directory")
    tensors: list[Array] = []
    refused: list[str] = []
    for path in sorted(path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES):
        if len(tensors) == MAX_PICTURES:
            break
        try:
            tensors.append(prepare(decode(path.read_bytes(), enough=prepare.enough))[0])
        except (SmolError, OSError) as error:
            refused.append(f"{path.name}: {error}")
    if len(tensors) < MIN_PICTURES:
        why = f"; {len(refused)} could not be read, the first: {refused[0]}" if refused else ""
        raise InvalidArgument(
            f"{directory} has {len(tensors)} pictures that can be read; give at least {MIN_PICTURES}{why}"
        )
    return tensors


def _write_int8(source: Path, target: Path, tensors: Sequence[Array]) -> None:
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
            folded = target.with_name("folded.onnx")  # Weights stored as halves are turned into floats, for one.
            preparing: Any = importlib.import_module("onnxruntime.quantization.shape_inference")
            modern = target.with_name("modern.onnx")
            importlib.import_module("onnx").save(_modern(source), modern)
            preparing.quant_pre_process(modern, folded, skip_symbolic_shape=True)
            tool.quantize_static(
                folded,
                target,
                Reader(),
                quant_format=tool.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=tool.QuantType.QUInt8,
                weight_type=tool.QuantType.QInt8,
            )
    except Exception as error:  # The tool's errors share no base class.
        raise FailedPrecondition(f"{source.name} can't be quantised: {error}") from error


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


def _modern(source: Path) -> Any:
    """The model with operators that know scales of each channel."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(source, load_external_data=False)
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if versions and versions[0] < _CHANNELS_FROM_OPSET:
        converter: Any = importlib.import_module("onnx.version_converter")
        return converter.convert_version(model, _CHANNELS_FROM_OPSET)
    return model


def _answers(engine: OnnxEngine, tensors: Sequence[Array]) -> tuple[list[Array], float]:
    """The outputs, and the median of the milliseconds."""
    outputs, took = [], []
    for tensor in tensors:
        start = perf_counter()
        outputs.append(engine.run({engine.inputs[0].name: tensor})[engine.outputs[0].name])
        took.append((perf_counter() - start) * 1e3)
    return outputs, round(median(took), 2)


def _agreement(variant: Variant, expected: Sequence[Array], found: Sequence[Array]) -> float:
    pairs = list(zip(expected, found, strict=True))
    if variant.output.head in ("softmax", "probabilities"):
        return float(np.mean([one.argmax() == other.argmax() for one, other in pairs]))
    same = total = 0
    for one, other in pairs:
        first, second = _boxes(variant, one), _boxes(variant, other)
        matched = _matches(first, second)
        same += matched
        total += len(first.scores) + len(second.scores) - matched
    return same / total if total else 1.0


def _boxes(variant: Variant, output: Array) -> Boxes:
    fed = variant.input
    return suppress(
        HEADS[variant.output.head](output, fed.width, fed.height, _THRESHOLD), variant.output.max_overlap, 100
    )


def _matches(first: Boxes, second: Boxes) -> int:
    """Boxes of one class that overlap; each is matched once."""
    free = set(range(len(second.scores)))
    for corners, kind in zip(first.corners, first.classes, strict=True):
        for index in sorted(free):
            if second.classes[index] == kind and _overlap(corners, second.corners[index]) >= _SAME_OVERLAP:
                free.discard(index)
                break
    return len(second.scores) - len(free)


def _overlap(one: Array, other: Array) -> float:
    shared = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(shared / (areas - shared))
