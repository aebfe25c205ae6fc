"""Saying what a picture shows."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from smol.engines import Array
from smol.sdk import Attachment, Context, Unit, operation
from smol.units.networks import ModelInfo, Networks, Timing
from smol.vision import decode

__all__ = ["Classification", "Classify", "FoundClass"]


class FoundClass(msgspec.Struct, frozen=True):
    """score: probability, 0 to 1; index: number of the class, since two may share a name."""

    label: str
    score: float
    index: int


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """The most probable classes of one picture, highest first.

    unsure: whether the best class is less probable than the model needs to be right more often than
    wrong; null where that was not measured for the model.
    width, height: of the upright picture in pixels.
    """

    classes: list[FoundClass]
    unsure: bool | None
    width: int
    height: int
    model: str
    variant: str
    timing: Timing


class Classify(Unit):
    """Say what a picture shows."""

    _networks: Networks | None = None

    async def provision(self, context: Context) -> None:
        """Read the settings; networks are loaded by the first call that needs them."""
        self._networks = Networks.from_context("classify", context)

    async def close(self) -> None:
        """Let the networks go."""
        if self._networks is not None:
            self._networks.close()

    @operation(read_only=True)
    def image(
        self,
        image: Attachment,
        context: Context,
        top: Annotated[int, Meta(ge=1, le=1000)] = 5,
        model: str | None = None,
    ) -> Classification:
        """Say what a picture shows, the most probable first.

        image: JPEG, PNG, WebP or GIF (its first frame).
        top: how many classes to report.
        model: NAME or NAME:VARIANT as listed by `models`; by default the first that can be had.
        """
        networks = self._provisioned
        network = networks.get(model, context)
        start = perf_counter()
        enough = network.preprocessor.enough
        picture = decode(image.data, enough=enough, max_pixels=networks.settings.max_pixels)
        decoded = perf_counter()
        tensor, _ = network.preprocessor(picture)
        prepared = perf_counter()
        logits = network.run(tensor)[0]
        inferred = perf_counter()
        read = network.variant.output
        probabilities = softmax(logits) if read.head == "softmax" else logits
        classes = [
            FoundClass(network.labels[index], round(float(probabilities[index]), 4), index)
            for index in np.argsort(-probabilities)[:top].tolist()
        ]
        return Classification(
            classes=classes,
            unsure=None if read.unsure_below is None else float(probabilities.max()) < read.unsure_below,
            width=picture.width,
            height=picture.height,
            model=network.model.name,
            variant=network.variant.name,
            timing=Timing(
                decode_ms=round((decoded - start) * 1e3, 3),
                preprocess_ms=round((prepared - decoded) * 1e3, 3),
                inference_ms=round((inferred - prepared) * 1e3, 3),
                postprocess_ms=round((perf_counter() - inferred) * 1e3, 3),
            ),
        )

    @operation(read_only=True)
    def models(self) -> list[ModelInfo]:
        """List the models that can classify pictures, most preferred first."""
        return self._provisioned.listing()

    @property
    def _provisioned(self) -> Networks:
        if self._networks is None:
            raise RuntimeError("Classify is used before provision")
        return self._networks


def softmax(logits: Array) -> Array:
    """Probabilities of one row of logits."""
    weights = np.exp(logits - logits.max())
    probabilities: Array = weights / weights.sum()
    return probabilities
