"""`smol models quantize`: an int8 variant of a model, made and measured on the user's own pictures.

What agrees too little with the original is not registered. Covers agreement, not accuracy: that would need
pictures with right answers. How numbers lose precision is in `smol.cli.int8`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import numpy as np

from smol.cli.int8 import write_int8
from smol.cli.output import format_size
from smol.cli.probe import probe
from smol.engines import Array
from smol.engines.onnx import OnnxEngine
from smol.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, SmolError
from smol.models import Library, Model, Store, Variant
from smol.vision import HEADS, Boxes, Preprocessor, decode, suppress

__all__ = ["MIN_AGREEMENT", "Measured", "quantize"]

MIN_AGREEMENT = 0.8
"""Below it a variant answers otherwise too often to stand in for the original; the how-to has figures."""

MIN_PICTURES, MAX_PICTURES = 8, 128
"""Half of the pictures set the ranges; the other half is what is measured."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
_THRESHOLD, _ALMOST = 0.4, 0.3
"""A box found from the first score on is confirmed by one from the second on: some are always close to one."""
_SAME_OVERLAP = 0.5


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """agreement: part of the pictures with the same best class, or of boxes that the other confirms, 0 to 1."""

    variant: str
    size_bytes: int
    memory_bytes: int
    median_ms: float
    agreement: float


def quantize(
    model: Model,
    variant: Variant,
    data: Path,
    library: Library,
    store: Store,
    min_agreement: float = MIN_AGREEMENT,
) -> list[Measured]:
    """Make, measure and register `VARIANT-int8`; figures of the original and of it.

    Raises FailedPrecondition when it can't be quantised or agrees too little, NotFound and InvalidArgument
    for the pictures.
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
    prepare = Preprocessor(**msgspec.structs.asdict(variant.input))
    pictures = _readable(data, prepare)
    original = store.obtain(variant)
    with tempfile.TemporaryDirectory(prefix="smol-quantize-") as alone:
        target = Path(alone) / "model.onnx"
        write_int8(original, target, _tensors(pictures[::2], prepare), keep_last=model.task == "detect")
        measured_on = pictures[1::2]
        agreement, large_ms, small_ms = _compare(
            variant, OnnxEngine.load(original), OnnxEngine.load(target), _tensors(measured_on, prepare)
        )
        made = _variant(variant, target, agreement, len(measured_on))
        before = probe(original).reserved_bytes
        measured = [
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
        _check(f"{model.name}:{made.name}", measured, len(measured_on), min_agreement)
        library.add(msgspec.structs.replace(model, variant=(made,)), target)
    return measured


def _variant(original: Variant, path: Path, agreement: float, pictures: int) -> Variant:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return msgspec.structs.replace(
        original,
        name=f"{original.name}-int8",
        file=f"{sha256[:16]}.onnx",
        sha256=sha256,
        bytes=len(content),
        mirrors=(),
        embedded=False,
        imported=True,
        reserved_bytes=probe(path).reserved_bytes,
        accuracy=f"agrees with {original.name} in {agreement:.1%}, on {pictures} pictures of the user's",
        output=msgspec.structs.replace(original.output, unsure_below=None),
    )


def _check(name: str, measured: Sequence[Measured], pictures: int, min_agreement: float) -> None:
    """Raises FailedPrecondition when the second of two gains nothing, or loses too much."""
    before, after = measured
    figures = ", ".join(
        f"{was} became {now}"
        for was, now in (
            (format_size(before.size_bytes), format_size(after.size_bytes)),
            (f"{format_size(before.memory_bytes)} of memory", format_size(after.memory_bytes)),
            (f"{before.median_ms} ms", f"{after.median_ms} ms"),
        )
    )
    if after.size_bytes >= before.size_bytes:
        raise FailedPrecondition(f"{name} was not registered, for it is not smaller: {figures}")
    if after.agreement < min_agreement:
        raise FailedPrecondition(
            f"{name} was not registered: on {pictures} pictures it agrees with {before.variant} in "
            f"{after.agreement:.1%} only, where {min_agreement:.1%} are asked for ({figures}). More pictures like "
            f"those it will see may help; --min-agreement {int(after.agreement * 100) / 100} takes it as it is",
            agreement=after.agreement,
            min_agreement=min_agreement,
        )


def _readable(directory: Path, prepare: Preprocessor) -> list[Path]:
    """Pictures in the directory that can be decoded, at most MAX_PICTURES, evenly over all of them."""
    if not directory.is_dir():
        raise NotFound(f"--data {str(directory)!r} is no directory")
    found = sorted(path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES)
    readable: list[Path] = []
    refused: list[str] = []
    for path in found[:: -(-len(found) // MAX_PICTURES) or 1]:
        try:
            decode(path.read_bytes(), enough=prepare.enough)
            readable.append(path)
        except (SmolError, OSError) as error:
            refused.append(f"{path.name}: {error}")
    if len(readable) < MIN_PICTURES:
        why = f"; {len(refused)} could not be read, the first: {refused[0]}" if refused else ""
        raise InvalidArgument(
            f"{directory} has {len(readable)} pictures that can be read; give at least {MIN_PICTURES}{why}"
        )
    return readable


def _tensors(paths: Sequence[Path], prepare: Preprocessor) -> Iterator[Array]:
    """One at a time: all at once would take gigabytes."""
    for path in paths:
        yield prepare(decode(path.read_bytes(), enough=prepare.enough))[0]


def _compare(
    variant: Variant, large: OnnxEngine, small: OnnxEngine, tensors: Iterator[Array]
) -> tuple[float, float, float]:
    """How far the second agrees with the first, and the median milliseconds of both, each picture in turn."""
    same = total = 0
    took: tuple[list[float], list[float]] = ([], [])
    for tensor in tensors:
        outputs = []
        for engine, times in zip((large, small), took, strict=True):
            start = perf_counter()
            outputs.append(engine.run({engine.inputs[0].name: tensor})[engine.outputs[0].name])
            times.append((perf_counter() - start) * 1e3)
        confirmed, possible = _agreement(variant, *outputs)
        same, total = same + confirmed, total + possible
    return same / total if total else 1.0, round(median(took[0]), 2), round(median(took[1]), 2)


def _agreement(variant: Variant, one: Array, other: Array) -> tuple[int, int]:
    """How much of one picture both agree in, and how much there is."""
    if variant.output.head in ("softmax", "probabilities"):
        return int(one.argmax() == other.argmax()), 1
    first, second = _boxes(variant, one), _boxes(variant, other)
    confirmed = _matches(_sure(first), second) + _matches(_sure(second), first)
    return confirmed, len(_sure(first).scores) + len(_sure(second).scores)


def _boxes(variant: Variant, output: Array) -> Boxes:
    fed = variant.input
    found = HEADS[variant.output.head](output, fed.width, fed.height, _ALMOST)
    return suppress(found, variant.output.max_overlap, 100)


def _sure(boxes: Boxes) -> Boxes:
    kept = boxes.scores >= _THRESHOLD
    return Boxes(boxes.corners[kept], boxes.scores[kept], boxes.classes[kept])


def _matches(first: Boxes, second: Boxes) -> int:
    """How many of the first have one of the second of their class on them; each serves once."""
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
