"""The catalog: which models there are, what they cost, and how they are fed and read.

Describes only. Files are obtained by the store, and run by an engine.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from smol.errors import DataLoss, InvalidArgument, NotFound, nearest

__all__ = [
    "Asset",
    "Catalog",
    "Input",
    "Labels",
    "Model",
    "Output",
    "Variant",
    "check_catalog",
    "load_catalog",
    "read_labels",
]

Positive = Annotated[int, Meta(ge=1)]


class Asset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file with known content.

    mirrors: URLs that serve exactly these bytes; embedded: whether it comes with the package;
    imported: whether a user brought it.
    """

    file: Annotated[str, Meta(pattern=r"^[\w.+-]+$")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    bytes: Positive
    mirrors: tuple[str, ...] = ()
    embedded: bool = False
    imported: bool = False


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a picture becomes the network's input; the meanings are those of `smol.vision.Preprocessor`."""

    width: Positive
    height: Positive
    fit: Literal["stretch", "corner", "crop"]
    channels: Literal["rgb", "bgr"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad: Annotated[int, Meta(ge=0, le=255)] = 0
    crop_fraction: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the network's output is read.

    head: its form; a classifier gives logits (`softmax`) or `probabilities`.
    max_overlap: beyond it boxes are doubles.
    unsure_below: the highest probability below which a classifier is more often wrong than right, as
    measured; None where it was not.
    """

    head: Literal["softmax", "probabilities", "decoded", "nanodet_plus", "yolox", "fastestdet"]
    max_overlap: Annotated[float, Meta(gt=0, le=1)] = 0.5
    unsure_below: Annotated[float, Meta(ge=0, le=1)] | None = None


class Variant(Asset, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One form of a model.

    reserved_bytes: what a worker needs beside its own, to load and run it; accuracy: as measured, in words.
    engine, network: what runs it; a network registered with the torch engine, or empty.
    """

    name: str
    reserved_bytes: Positive
    accuracy: str
    engine: Literal["onnx", "torch"] = "onnx"
    network: str = ""
    input: Input
    output: Output


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, its variants in the order in which they are preferred."""

    name: str
    task: Literal["classify", "detect"]
    licence: str
    source: str
    labels: str
    variant: Annotated[tuple[Variant, ...], Meta(min_length=1)]


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names of a model's classes: written down here, or the column `name` of a CSV file."""

    names: tuple[str, ...] = ()
    asset: Asset | None = None


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models, in the order in which they are preferred."""

    model: tuple[Model, ...]
    labels: dict[str, Labels]

    def variants(self, task: str) -> Iterator[tuple[Model, Variant]]:
        """Models of a task with their variants, most preferred first."""
        return ((model, variant) for model in self.model if model.task == task for variant in model.variant)

    def find(self, task: str, name: str) -> tuple[Model, Variant]:
        """A variant by `MODEL:VARIANT`; the first variant by `MODEL`.

        Raises InvalidArgument for a model of another task, NotFound naming the nearest.
        """
        model_name, _, variant_name = name.partition(":")
        for model, variant in self.variants(task):
            if model.name == model_name and variant_name in ("", variant.name):
                return model, variant
        other = next((model.task for model in self.model if model.name == model_name), task)
        if other != task:
            raise InvalidArgument(f"model {name!r} is there to {other}, not to {task}; run: smol {other}")
        known = [f"{model.name}:{variant.name}" for model, variant in self.variants(task)]
        hint = nearest(name, [*known, *{model.name for model, _ in self.variants(task)}])
        raise NotFound(f"there is no model {name!r} to {task} with{hint}; known: {', '.join(known)}")

    def assets(self) -> Iterator[Asset]:
        """Every file that the catalog knows."""
        for model in self.model:
            yield from model.variant
        for labels in self.labels.values():
            if labels.asset is not None:
                yield labels.asset


@cache
def load_catalog() -> Catalog:
    """The catalog that comes with the package."""
    return parse_catalog(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))


def parse_catalog(text: str) -> Catalog:
    """Raises DataLoss when the text is no catalog, or contradicts itself."""
    try:
        catalog = msgspec.convert(tomllib.loads(text), Catalog)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DataLoss(f"the model catalog is damaged: {error}") from error
    return check_catalog(catalog)


def check_catalog(catalog: Catalog) -> Catalog:
    """The catalog itself. Raises DataLoss when it contradicts itself."""
    for model in catalog.model:
        if model.labels not in catalog.labels:
            raise DataLoss(f"model {model.name!r} has labels {model.labels!r}, which the catalog does not define")
    keys = [(model.name, variant.name) for model in catalog.model for variant in model.variant]
    # Variants that only differ in how pictures are prepared may share a file.
    files = [file for file, _ in {(asset.file, asset.sha256) for asset in catalog.assets()}]
    for values in (keys, files):
        if len(set(values)) != len(values):
            raise DataLoss(f"the model catalog names something twice: {values}")
    return catalog


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a CSV file with a column `name`, by rising `index`. Raises DataLoss."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
            return tuple(row["name"] for row in rows)
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataLoss(f"the label file {path.name} is damaged: {error!r}") from error
