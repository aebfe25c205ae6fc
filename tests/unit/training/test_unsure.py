"""The threshold below which a classifier calls itself unsure."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra")
pytest.importorskip("onnx", reason="onnx is an extra")
pytest.importorskip("safetensors", reason="safetensors is an extra")

from smol.engines.onnx import OnnxEngine  # noqa: E402

TRAINING = Path(__file__).parents[3] / "training"


def fit_unsure(*of: Any) -> float:
    """That of `training/export.py`, which is in no package."""
    if str(TRAINING) not in sys.path:
        sys.path.append(str(TRAINING))
    OnnxEngine.warm()  # Before anything else imports the runtime, so that its telemetry is off.
    found: float = importlib.import_module("export").fit_unsure(*of)
    return found


def logits(*best: float) -> Any:
    """Of two classes, the first with these probabilities."""
    probabilities = torch.tensor(best)
    return torch.stack((probabilities.log(), (1 - probabilities).log()), dim=1)


def test_it_lies_between_the_wrong_answers_and_the_right_ones() -> None:
    labels = torch.tensor([1, 1, 0, 0])
    assert fit_unsure(logits(0.55, 0.6, 0.8, 0.9), labels, logits(0.7)) == pytest.approx(0.75)


def test_strangers_weigh_as_much_as_all_familiar_pictures_however_few_or_many_they_are() -> None:
    familiar, labels = logits(*[0.6] * 3, *[0.95] * 7), torch.tensor([0] * 10)
    few, many = (fit_unsure(familiar, labels, logits(*[0.8] * count)) for count in (1, 1000))
    assert few == pytest.approx(many) == pytest.approx(0.875)


def test_a_classifier_that_is_always_right_is_never_unsure() -> None:
    assert fit_unsure(logits(0.6, 0.7), torch.tensor([0, 0]), logits()[:0].reshape(0, 2)) == 0.0


def test_one_that_is_always_wrong_is_always_unsure() -> None:
    assert fit_unsure(logits(0.6, 0.7), torch.tensor([1, 1]), logits(0.9)) == 1.0
