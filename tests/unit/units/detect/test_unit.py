from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from smol.errors import Cancelled, InvalidArgument
from smol.protocol.payload import encode_payload
from smol.sdk import Attachment, Context
from smol.sdk.schema import operations_of
from smol.units.detect.unit import Box, Detect, Detection

MakeContext = Callable[..., Context]
FAST = "fastestdet"
EXACT = "nanodet-plus-m"


@pytest.fixture
def context(make_context: MakeContext, mirror: Path) -> Context:
    return make_context("detect", threads=1)


@pytest.fixture
def unit(context: Context) -> Detect:
    detect = Detect()
    asyncio.run(detect.provision(context))
    return detect


def labels(detection: Detection) -> list[str]:
    return [item.label for item in detection.objects]


def area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def overlap(a: Box, b: Box) -> float:
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (area(a) + area(b) - shared)


def rewritten(photo: Attachment, change: Callable[[Image.Image], Image.Image], **options: Any) -> Attachment:
    file = io.BytesIO()
    change(Image.open(io.BytesIO(photo.data))).save(file, "JPEG", quality=95, **options)
    return Attachment(file.getvalue())


@pytest.mark.parametrize("model", ["nanodet-plus-m", "yolox-nano", "fastestdet"])
def test_a_real_photo_gives_objects_best_first_inside_the_picture(
    unit: Detect, context: Context, photo: Attachment, model: str
) -> None:
    found = unit.image(photo, context, model=model, threshold=0.35)
    assert {"chair", "tv"} & set(labels(found))
    assert [item.score for item in found.objects] == sorted((i.score for i in found.objects), reverse=True)
    assert all(item.score > 0.35 for item in found.objects)
    assert all(0 <= i.box.x1 < i.box.x2 <= found.width for i in found.objects)
    assert all(0 <= i.box.y1 < i.box.y2 <= found.height for i in found.objects)
    assert (found.width, found.height) == Image.open(io.BytesIO(photo.data)).size
    assert found.model == model
    assert min(msgspec.structs.astuple(found.timing)) >= 0


def test_a_photo_that_lies_on_its_side_gives_the_same_boxes(
    unit: Detect, context: Context, photo: Attachment
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = rewritten(photo, lambda image: image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    upright = unit.image(photo, context, model=EXACT, threshold=0.5)
    turned = unit.image(lying, context, model=EXACT, threshold=0.5)
    assert (turned.width, turned.height) == (upright.width, upright.height)
    assert labels(turned)[0] == labels(upright)[0]
    assert overlap(turned.objects[0].box, upright.objects[0].box) > 0.95


def test_a_photo_three_times_as_large_gives_boxes_three_times_as_large(
    unit: Detect, context: Context, photo: Attachment
) -> None:
    small = unit.image(photo, context, model=EXACT, threshold=0.5)
    large = unit.image(
        rewritten(photo, lambda image: image.resize((image.width * 3, image.height * 3))),
        context,
        model=EXACT,
        threshold=0.5,
    )
    box = large.objects[0].box
    assert overlap(Box(box.x1 / 3, box.y1 / 3, box.x2 / 3, box.y2 / 3), small.objects[0].box) > 0.9


def test_only_the_labels_asked_for_are_reported(unit: Detect, context: Context, photo: Attachment) -> None:
    everything = unit.image(photo, context, model=EXACT, threshold=0.2)
    assert len(set(labels(everything))) > 1
    wanted = labels(everything)[-1]
    only = unit.image(photo, context, model=EXACT, threshold=0.2, labels=[wanted])
    assert set(labels(only)) == {wanted}
    assert unit.image(photo, context, model=EXACT, labels=[]).objects == []


def test_an_unknown_label_is_refused_with_the_nearest(unit: Detect, context: Context, photo: Attachment) -> None:
    with pytest.raises(InvalidArgument, match=r"no label 'persom' \(did you mean 'person'"):
        unit.image(photo, context, model=FAST, labels=["persom"])


def test_no_more_than_max_objects_are_reported(unit: Detect, context: Context, photo: Attachment) -> None:
    many = unit.image(photo, context, model=EXACT, threshold=0.1)
    assert len(many.objects) > 3
    assert unit.image(photo, context, model=EXACT, threshold=0.1, max_objects=3).objects == many.objects[:3]


def test_any_threshold_is_survived(unit: Detect, context: Context, photo: Attachment) -> None:
    for model in ("nanodet-plus-m", "yolox-nano", FAST):
        assert len(unit.image(photo, context, threshold=0.0, model=model, max_objects=1000).objects) > 20
        assert unit.image(photo, context, threshold=1.0, model=model).objects == []


@pytest.mark.parametrize(("name", "expected"), [("jpeg", "JPEG"), ("png", "PNG")])
def test_the_annotated_picture_shows_the_boxes(
    unit: Detect, context: Context, photo: Attachment, name: Any, expected: str
) -> None:
    found = unit.image(photo, context, model=EXACT, annotated=True, annotated_format=name)
    assert found.annotated is not None
    assert found.annotated.media_type == f"image/{name}"
    picture = Image.open(io.BytesIO(found.annotated.data))
    assert (picture.format, picture.size) == (expected, (found.width, found.height))
    assert encode_payload(found)[2] == [found.annotated.data]


def test_a_batch_answers_in_order_and_tells_progress(
    unit: Detect, context: Context, photo: Attachment, link: Any
) -> None:
    mirrored = rewritten(photo, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    both = unit.batch([photo, mirrored], context, model=FAST)
    assert both[0].objects == unit.image(photo, context, model=FAST).objects
    assert both[1].objects == unit.image(mirrored, context, model=FAST).objects
    assert link.told[-2:] == [(0.5, "1 of 2"), (1.0, "2 of 2")]


def test_a_bad_picture_in_a_batch_is_named(unit: Detect, context: Context, photo: Attachment) -> None:
    with pytest.raises(InvalidArgument, match=r"images\[1\]: .*0 bytes") as caught:
        unit.batch([photo, Attachment(b"")], context, model=FAST)
    assert caught.value.details == {"index": 1}


def test_a_batch_stops_when_the_caller_goes_away(unit: Detect, context: Context, photo: Attachment) -> None:
    unit.image(photo, context, model=FAST)
    context.cancelled = True
    with pytest.raises(Cancelled):
        unit.batch([photo], context, model=FAST)


def test_the_pixel_limit_is_a_setting(make_context: MakeContext, mirror: Path, photo: Attachment) -> None:
    context = make_context("detect", max_megapixels=0.1)
    unit = Detect()
    asyncio.run(unit.provision(context))
    with pytest.raises(InvalidArgument, match=r"0\.1 megapixels"):
        unit.image(photo, context, model=FAST)


def test_torch_finds_the_same(make_context: MakeContext, mirror: Path, photo: Attachment) -> None:
    pytest.importorskip("onnx2torch")
    found = []
    for engine in ("onnx", "torch"):
        context = make_context("detect", engine=engine)
        unit = Detect()
        asyncio.run(unit.provision(context))
        found.append(unit.image(photo, context, model=FAST))
    assert found[0].objects
    assert labels(found[0]) == labels(found[1])
    for one, other in zip(found[0].objects, found[1].objects, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)


def test_every_operation_and_parameter_is_described() -> None:
    operations = operations_of(Detect(), "detect")
    assert set(operations) == {"image", "batch", "models"}
    for name in ("image", "batch"):
        properties = operations[name].describe(schemas=True).input["properties"]
        assert all(schema.get("description") for schema in properties.values())
        assert operations[name].threaded


def test_a_unit_that_was_never_provisioned_closes_quietly() -> None:
    asyncio.run(Detect().close())


def test_a_closed_unit_has_let_its_networks_go(unit: Detect, context: Context, photo: Attachment) -> None:
    unit.image(photo, context, model=FAST)
    network = unit._provisioned.get(FAST, context)
    asyncio.run(unit.close())
    assert unit._provisioned.get(FAST, context) is not network
