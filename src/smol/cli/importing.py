"""`smol models import`: from a file of the user's to a model in the library, checked and measured.

Covers what can be told from the file, and asking for the rest by the name of an option.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Literal, cast

import msgspec

from smol.cli.convert import convert
from smol.cli.probe import Finding, probe
from smol.errors import InvalidArgument, NotFound, nearest
from smol.models import Catalog, Input, Labels, Library, Model, Output, Store, Variant
from smol.models.inspection import check_onnx, kind_of
from smol.models.published import PUBLISHED, fetch_weights

__all__ = ["Wishes", "import_model", "import_published"]

MAX_FILE_BYTES = 512 * 2**20
"""A quarter of the budget: a larger model could not be run beside anything else."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STRIDES = {"nanodet_plus": (8, 16, 32, 64), "yolox": (8, 16, 32), "decoded": (8, 16, 32)}
_EXTRA_COLUMNS = {"nanodet_plus": 32, "yolox": 5, "decoded": 4}

Task = Literal["classify", "detect"]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says of the model; None for what is to be found out or asked for."""

    name: str | None = None
    variant: str | None = None
    task: str | None = None
    labels: str | None = None
    head: str | None = None
    like: str | None = None
    channels: str | None = None
    fit: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    network: str | None = None
    crop_fraction: float | None = None
    max_overlap: float | None = None
    source: str = "imported"
    accuracy: str = "imported, not measured by us"
    licence: str = "unknown"


def import_model(path: Path, wishes: Wishes, library: Library) -> tuple[Model, Variant]:
    """Check, measure and register a model. Raises InvalidArgument: what is wrong, or which option is missing."""
    data = _read(path)
    kind = kind_of(data, path.name)
    if kind == "onnx":
        check_onnx(data, path.name)
    elif wishes.network is None:
        raise InvalidArgument(f"{path.name} has only weights: say which network they are of with --network")
    name = _checked_name("--name", wishes.name or _slug(path.stem))
    catalog = library.catalog()
    with tempfile.TemporaryDirectory(prefix="smol-import-") as alone:  # Nothing else is beside the file.
        copy = Path(alone) / f"model.{kind}"
        copy.write_bytes(data)
        finding = probe(copy, "onnx" if kind == "onnx" else "torch", wishes.network or "")
        task = _task(wishes, finding)
        labels_name, labels, count = _labels(wishes, catalog, name)
        head = _head(task, wishes, finding, count)
        fed = _input(wishes, finding, catalog, task)
        sha256 = hashlib.sha256(data).hexdigest()
        variant = Variant(
            name=_checked_name("--variant", wishes.variant or str(fed.width)),
            file=f"{sha256[:16]}.{kind}",
            sha256=sha256,
            bytes=len(data),
            imported=True,
            reserved_bytes=finding.reserved_bytes,
            accuracy=wishes.accuracy,
            engine="onnx" if kind == "onnx" else "torch",
            network=wishes.network or "",
            input=fed,
            output=Output(head=cast("Literal['softmax']", head), max_overlap=wishes.max_overlap or 0.5),
        )
        model = Model(
            name=name,
            task=task,
            licence=wishes.licence,
            source=wishes.source,
            labels=labels_name,
            variant=(variant,),
        )
        library.add(model, copy, {labels_name: labels})
    return model, variant


def import_published(name: str, library: Library, store: Store) -> tuple[Model, Variant]:
    """Fetch published weights, convert and register them. Raises as each of these steps."""
    published = PUBLISHED[name]
    with tempfile.TemporaryDirectory(prefix="smol-convert-") as alone:
        weights, target = Path(alone) / published.file, Path(alone) / "model.onnx"
        weights.write_bytes(fetch_weights(published, store))
        convert(weights, target, published.network, published.side)
        wishes = Wishes(
            name=name,
            task=published.task,
            labels=published.labels,
            head="decoded" if published.task == "detect" else "softmax",
            channels="rgb",
            fit=published.fit,
            mean=published.mean,
            std=published.std,
            crop_fraction=published.crop_fraction,
            max_overlap=published.max_overlap,
            source=published.file,
            accuracy="not measured by us",
            licence="BSD-3-Clause",
        )
        return import_model(target, wishes, library)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise NotFound(f"there is no file {str(path)!r}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidArgument(
                f"{path.name} has {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are taken"
            )
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from None


def _slug(stem: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip("-.")[:64]


def _checked_name(option: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{option} {name!r} can't be used: take small letters, digits, '.', '_' and '-'")
    return name


def _task(wishes: Wishes, finding: Finding) -> Task:
    found: Task = "classify" if len(finding.output) == 2 else "detect"
    if wishes.task is not None and wishes.task != found:
        raise InvalidArgument(
            f"an output of shape {list(finding.output)} can't {wishes.task}; it looks like --task {found}"
        )
    return found


def _labels(wishes: Wishes, catalog: Catalog, name: str) -> tuple[str, Labels, int | None]:
    """The labels by their name in the catalog, themselves, and how many; None where a file has them."""
    if wishes.labels is None:
        raise InvalidArgument(
            f"the names of the classes are not in the file: give --labels, a text file with one name a line, or "
            f"one of {', '.join(catalog.labels)}"
        )
    known = catalog.labels.get(wishes.labels)
    if known is not None:
        return wishes.labels, known, len(known.names) or None
    try:
        lines = Path(wishes.labels).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest(wishes.labels, catalog.labels)
        raise InvalidArgument(
            f"--labels {wishes.labels!r} is neither a text file ({error}) "
            f"nor one of {', '.join(catalog.labels)}{hint}"
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    return f"{name}-labels", Labels(names=names), len(names)


def _head(task: Task, wishes: Wishes, finding: Finding, count: int | None) -> str:
    """How the output is read: told by its shape and the number of labels."""
    shape = finding.output
    if task == "classify":
        count = count or 1000  # The labels that are a file are those of ImageNet.
        if shape != (1, count):
            raise InvalidArgument(f"the model gives {list(shape)} scores and --labels has {count} names")
        if wishes.head in ("softmax", "probabilities"):
            return wishes.head
        if wishes.head is not None:
            raise InvalidArgument(
                f"--head {wishes.head} is of detectors; classifiers have softmax or probabilities"
            )
        return "probabilities" if finding.probabilities else "softmax"
    height, width = finding.inputs[0].shape[2:]
    fits = [
        head
        for head, strides in _STRIDES.items()
        if len(shape) == 3
        and shape[1] == sum(-(-int(height or 0) // s) * -(-int(width or 0) // s) for s in strides)
        and shape[2] - _EXTRA_COLUMNS[head] == count
    ]
    if len(shape) == 3 and shape[2] - 4 == count and "decoded" not in fits:
        fits.append("decoded")  # It decodes its boxes itself: any number of them.
    if len(shape) == 4 and shape[1] - 5 == count:
        fits.append("fastestdet")
    if wishes.head in fits or (wishes.head is None and len(fits) == 1):
        return wishes.head or fits[0]
    asked = f"--head {wishes.head} does not fit" if wishes.head else "no known head fits"
    raise InvalidArgument(
        f"{asked} an output of shape {list(shape)} with {count} labels"
        + (
            f"; say which with --head: {', '.join(fits)}"
            if fits
            else "; known: nanodet_plus, yolox, decoded, fastestdet"
        )
    )


def _input(wishes: Wishes, finding: Finding, catalog: Catalog, task: Task) -> Input:
    """How pictures are fed: the size is in the file, the rest is not."""
    height, width = (int(size or 0) for size in finding.inputs[0].shape[2:])
    if wishes.like is not None:
        _, like = catalog.find(task, wishes.like)
        return msgspec.structs.replace(like.input, width=width, height=height)
    missing = [f"--{name}" for name in ("channels", "mean", "std") if getattr(wishes, name) is None]
    if missing:
        raise InvalidArgument(
            f"how pictures are prepared is not in the file: give {', '.join(missing)}, or --like MODEL for one "
            "that is fed in the same way; a wrong choice costs accuracy without any error"
        )
    given = {
        "width": width,
        "height": height,
        "fit": wishes.fit or ("crop" if task == "classify" else "stretch"),
        "channels": wishes.channels,
        "mean": wishes.mean,
        "std": wishes.std,
        "crop_fraction": wishes.crop_fraction or 1.0,
    }
    try:
        made = msgspec.convert(given, Input)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the options say nothing that can be used: {error}") from None
    if 0.0 in made.std:
        raise InvalidArgument(f"--std {wishes.std} has a zero; pictures are divided by it")
    return made
