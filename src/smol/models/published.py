"""Weights that others publish as PyTorch files, with only the beginning of their hash in the name.

They are fetched on request, turned into ONNX in a process of its own, and kept in the library with the full hash
of that. Covers where they are and that they are the right ones; the networks are in `smol.models.mobilenet`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal, NamedTuple

from smol.errors import DataLoss, Unavailable
from smol.models.catalog import Asset
from smol.models.fetch import TIMEOUT_SECONDS, local_path
from smol.models.store import Store

__all__ = ["PUBLISHED", "Published", "fetch_weights"]

MAX_WEIGHTS_BYTES: Final = 64 * 2**20
_FROM: Final = "https://download.pytorch.org/models/"
_IMAGENET_MEAN: Final = (123.675, 116.28, 103.53)
_IMAGENET_STD: Final = (58.395, 57.12, 57.375)


class Published(NamedTuple):
    """One file. side: of the input in pixels; the first eight digits of its SHA-256 end its name."""

    file: str
    task: Literal["classify", "detect"]
    network: str
    labels: str
    side: int
    fit: Literal["stretch", "crop"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float = 1.0
    max_overlap: float = 0.5

    @property
    def hash_prefix(self) -> str:
        return self.file.removesuffix(".pth").rpartition("-")[2]


PUBLISHED: Final = {
    "mobilenet-v3-small": Published(
        "mobilenet_v3_small-047dcff4.pth", "classify", "mobilenet_v3_small", "imagenet1000", 224, "crop",
        _IMAGENET_MEAN, _IMAGENET_STD, 224 / 256,
    ),
    "mobilenet-v3-large": Published(
        "mobilenet_v3_large-5c1a4163.pth", "classify", "mobilenet_v3_large", "imagenet1000", 224, "crop",
        _IMAGENET_MEAN, _IMAGENET_STD, 224 / 232,
    ),
    "ssdlite-mobilenet-v3": Published(
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth", "detect", "ssdlite", "coco80", 320, "stretch",
        (127.5, 127.5, 127.5), (127.5, 127.5, 127.5), max_overlap=0.55,
    ),
}  # fmt: skip


def fetch_weights(published: Published, store: Store) -> bytes:
    """The file from the mirror or its publisher. Raises Unavailable, or DataLoss when all there is is another."""
    asset = Asset(file=published.file, sha256=published.hash_prefix, bytes=1, mirrors=(_FROM + published.file,))
    failures: list[str] = []
    lost: DataLoss | None = None
    for source in store.sources(asset):
        try:
            data = _read(source)
        except OSError as error:
            failures.append(f"{source}: {getattr(error, 'reason', None) or error}")
            continue
        found = hashlib.sha256(data).hexdigest()
        if len(data) <= MAX_WEIGHTS_BYTES and found.startswith(published.hash_prefix):
            return data
        lost = DataLoss(
            f"{source} has the wrong content: its sha256 begins with {found[:8]} instead of "
            f"{published.hash_prefix}; it was not taken"
        )
    if lost is not None:
        raise lost
    raise Unavailable(
        f"{published.file} can't be fetched: {'; '.join(failures)}. Go online, or set SMOL_MODEL_MIRROR to a "
        "directory or URL that has it"
    )


def _read(source: str) -> bytes:
    """At most one byte more than allowed."""
    path = local_path(source)
    if path is not None:
        with Path(path).open("rb") as file:
            return file.read(MAX_WEIGHTS_BYTES + 1)
    import http.client  # As in `fetch`: for something that happens once.
    import urllib.request

    request = urllib.request.Request(source, headers={"User-Agent": "smol"})  # noqa: S310  # See check_source.
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            data: bytes = response.read(MAX_WEIGHTS_BYTES + 1)
            return data
    except http.client.HTTPException as error:
        raise OSError(f"{error!r}") from error
