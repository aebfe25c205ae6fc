from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smol.errors import InvalidArgument
from smol.sdk import Attachment, Context
from smol.sdk.schema import operations_of
from smol.units.classify.unit import Classify, softmax

MakeContext = Callable[..., Context]


@pytest.fixture
def context(make_context: MakeContext, mirror: Path) -> Context:
    return make_context("classify", threads=1)


@pytest.fixture
def unit(context: Context) -> Classify:
    classify = Classify()
    asyncio.run(classify.provision(context))
    return classify


@pytest.fixture
def sample(shared: Path) -> Path:
    return shared / "datasets" / "imagenet-sample800"


def test_a_real_photo_is_named_with_falling_probabilities(unit: Classify, context: Context, sample: Path) -> None:
    with (sample / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:20]
    right = 0
    for row in rows:
        found = unit.image(Attachment.from_file(sample / row["file"]), context, model="mobilenet-v2")
        scores = [item.score for item in found.classes]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1.0003
        right += (found.classes[0].label, found.classes[0].index) == (row["name"], int(row["index"]))
    assert right >= 15


def test_as_many_classes_as_asked_for_are_reported(unit: Classify, context: Context, photo: Attachment) -> None:
    every = unit.image(photo, context, top=1000, model="mobilenet-v1:0.25-128")
    assert len({item.index for item in every.classes}) == 1000
    assert sum(item.score for item in every.classes) == pytest.approx(1, abs=0.05)
    assert (every.model, every.variant) == ("mobilenet-v1", "0.25-128")
    assert len(unit.image(photo, context, top=1).classes) == 1


def test_an_answer_below_the_measured_threshold_of_its_model_is_unsure(
    unit: Classify, context: Context, photo: Attachment
) -> None:
    found = unit.image(photo, context, model="mobilenet-v2")
    assert found.unsure is (found.classes[0].score < 0.4)
    noise = io.BytesIO()
    Image.effect_noise((256, 256), 90).convert("RGB").save(noise, "PNG")
    assert unit.image(Attachment(noise.getvalue()), context, model="mobilenet-v1:0.5-160-int8").unsure is True
    assert unit.image(photo, context, model="smol-classify").unsure is True  # A room, which it knows nothing of.


def test_what_is_no_picture_is_refused(unit: Classify, context: Context) -> None:
    with pytest.raises(InvalidArgument, match="not a JPEG"):
        unit.image(Attachment(b"hello, world"), context)


def test_a_detector_is_no_classifier(unit: Classify, context: Context, photo: Attachment) -> None:
    with pytest.raises(InvalidArgument, match="'yolox-nano' is there to detect, not to classify"):
        unit.image(photo, context, model="yolox-nano")


def test_the_models_are_listed(unit: Classify) -> None:
    listing = unit.models()
    assert [info.name for info in listing if info.default] == ["mobilenet-v2"]
    assert all(info.bytes > 100_000 and info.accuracy for info in listing)


def test_every_operation_and_parameter_is_described() -> None:
    operations = operations_of(Classify(), "classify")
    assert set(operations) == {"image", "models"}
    properties = operations["image"].describe(schemas=True).input["properties"]
    assert all(schema.get("description") for schema in properties.values())


def test_large_logits_do_not_overflow() -> None:
    assert softmax(np.array([1000.0, 0.0], dtype=np.float32)).tolist() == [1.0, 0.0]
