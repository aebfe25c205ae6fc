"""Finding objects in pictures."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from smol.errors import InvalidArgument, nearest
from smol.sdk import Attachment, Context, Unit, operation
from smol.units.networks import ModelInfo, Network, Networks, Timing, check_cancelled
from smol.vision import HEADS, Boxes, Picture, annotate, decode, suppress

__all__ = ["Box", "Detect", "Detection", "FoundObject"]

ANNOTATED_SIDE = 1024
"""A picture to be drawn on is decoded with at least this many pixels on its shorter side, if it has them."""

Threshold = Annotated[float, Meta(ge=0, le=1)]
MaxObjects = Annotated[int, Meta(ge=1, le=1000)]
PictureFormat = Literal["jpeg", "png"]


class Box(msgspec.Struct, frozen=True):
    """Left, top, right and bottom edge in pixels of the original picture, turned upright."""

    x1: float
    y1: float
    x2: float
    y2: float


class FoundObject(msgspec.Struct, frozen=True):
    """score: 0 to 1."""

    label: str
    score: float
    box: Box


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """What is in one picture, highest score first.

    width, height: of the upright picture in pixels.
    annotated: the picture with its boxes drawn, if it was asked for.
    """

    objects: list[FoundObject]
    width: int
    height: int
    model: str
    variant: str
    timing: Timing
    annotated: Attachment | None = None


class Detect(Unit):
    """Find objects in pictures: labels, scores and boxes."""

    _networks: Networks | None = None

    async def provision(self, context: Context) -> None:
        """Read the settings; networks are loaded by the first call that needs them."""
        self._networks = Networks.from_context("detect", context)

    async def close(self) -> None:
        """Let the networks go."""
        if self._networks is not None:
            self._networks.close()

    @operation(read_only=True)
    def image(
        self,
        image: Attachment,
        context: Context,
        threshold: Threshold = 0.4,
        model: str | None = None,
        max_objects: MaxObjects = 100,
        labels: list[str] | None = None,
        annotated: bool = False,
        annotated_format: PictureFormat = "jpeg",
    ) -> Detection:
        """Find the objects in a picture.

        image: JPEG, PNG, WebP or GIF (its first frame).
        threshold: lowest score to report, 0 to 1.
        model: NAME or NAME:VARIANT as listed by `models`; by default the first that can be had.
        max_objects: report at most this many, highest scores first.
        labels: report only these, for example ["person", "dog"].
        annotated: also return the picture with its boxes drawn, at most 2048 pixels wide or high.
        annotated_format: jpeg or png.
        """
        network = self._provisioned.get(model, context)
        return self._detect(
            network, image, threshold, max_objects, _wanted(labels, network), annotated, annotated_format
        )

    @operation(read_only=True)
    def batch(
        self,
        images: Annotated[list[Attachment], Meta(min_length=1, max_length=256)],
        context: Context,
        threshold: Threshold = 0.4,
        model: str | None = None,
        max_objects: MaxObjects = 100,
        labels: list[str] | None = None,
        annotated: bool = False,
        annotated_format: PictureFormat = "jpeg",
    ) -> list[Detection]:
        """Find the objects in several pictures; a picture that can't be read fails the call by its number.

        images: JPEG, PNG, WebP or GIF, up to 256 of them.
        threshold: lowest score to report, 0 to 1.
        model: NAME or NAME:VARIANT as listed by `models`; by default the first that can be had.
        max_objects: report at most this many in each picture, highest scores first.
        labels: report only these, for example ["person", "dog"].
        annotated: also return the pictures with their boxes drawn.
        annotated_format: jpeg or png.
        """
        network = self._provisioned.get(model, context)
        wanted = _wanted(labels, network)
        detections = []
        for index, image in enumerate(images):
            check_cancelled(context)
            try:
                detections.append(
                    self._detect(network, image, threshold, max_objects, wanted, annotated, annotated_format)
                )
            except InvalidArgument as error:
                raise InvalidArgument(f"images[{index}]: {error.message}", index=index) from error
            context.progress((index + 1) / len(images), f"{index + 1} of {len(images)}")
        return detections

    @operation(read_only=True)
    def models(self) -> list[ModelInfo]:
        """List the models that can detect objects, most preferred first."""
        return self._provisioned.listing()

    @property
    def _provisioned(self) -> Networks:
        if self._networks is None:
            raise RuntimeError("Detect is used before provision")
        return self._networks

    def _detect(
        self,
        network: Network,
        image: Attachment,
        threshold: float,
        max_objects: int,
        wanted: frozenset[int] | None,
        annotated: bool,
        annotated_format: PictureFormat,
    ) -> Detection:
        start = perf_counter()
        enough = network.preprocessor.enough
        picture = decode(
            image.data,
            enough=max(enough, ANNOTATED_SIDE) if annotated else enough,
            max_pixels=self._provisioned.settings.max_pixels,
        )
        decoded = perf_counter()
        tensor, placement = network.preprocessor(picture)
        prepared = perf_counter()
        output = network.run(tensor)
        inferred = perf_counter()
        variant = network.variant
        boxes = HEADS[variant.output.head](output, variant.input.width, variant.input.height, threshold)
        if wanted is not None:
            boxes = _only(boxes, wanted)
        boxes = suppress(boxes, variant.output.max_overlap, max_objects)
        corners = placement.to_picture(boxes.corners).astype(float).round(2).tolist()
        scores = boxes.scores.astype(float).round(4).tolist()
        classes = boxes.classes.tolist()
        objects = [
            FoundObject(network.labels[kind], score, Box(*corner))
            for kind, score, corner in zip(classes, scores, corners, strict=True)
        ]
        done = perf_counter()
        return Detection(
            objects=objects,
            width=picture.width,
            height=picture.height,
            model=network.model.name,
            variant=variant.name,
            timing=Timing(
                decode_ms=_ms(start, decoded),
                preprocess_ms=_ms(decoded, prepared),
                inference_ms=_ms(prepared, inferred),
                postprocess_ms=_ms(inferred, done),
            ),
            annotated=_drawn(picture, objects, classes, annotated_format) if annotated else None,
        )


def _wanted(labels: list[str] | None, network: Network) -> frozenset[int] | None:
    """Class numbers of the labels. Raises InvalidArgument for one that the model does not know."""
    if labels is None:
        return None
    for label in labels:
        if label not in network.labels:
            raise InvalidArgument(
                f"model {network.model.name!r} has no label {label!r}{nearest(label, network.labels)}; "
                f"it knows {', '.join(network.labels)}"
            )
    return frozenset(network.labels.index(label) for label in labels)


def _only(boxes: Boxes, wanted: frozenset[int]) -> Boxes:
    keep = np.isin(boxes.classes, list(wanted))
    return Boxes(boxes.corners[keep], boxes.scores[keep], boxes.classes[keep])


def _drawn(
    picture: Picture, objects: list[FoundObject], classes: list[int], picture_format: PictureFormat
) -> Attachment:
    data = annotate(
        picture.image,
        [(item.box.x1, item.box.y1, item.box.x2, item.box.y2) for item in objects],
        [f"{item.label} {item.score:.2f}" for item in objects],
        classes,
        scale=picture.image.width / picture.width,
        format="PNG" if picture_format == "png" else "JPEG",
    )
    suffix = "png" if picture_format == "png" else "jpg"
    return Attachment(data, f"image/{picture_format}", f"annotated.{suffix}")


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
