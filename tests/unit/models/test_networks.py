from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is an extra")

import torch

from smol.engines.onnx import OnnxEngine
from smol.models import load_catalog
from smol.models.networks import CLASSIFY_CLASSES, DETECT_CLASSES, SmolClassify, SmolDetect


def parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_networks_are_as_small_as_they_are_said_to_be() -> None:
    assert parameters(SmolClassify()) <= 600_000
    assert parameters(SmolDetect()) <= 850_000


def test_the_classes_are_those_of_the_catalog() -> None:
    labels = load_catalog().labels
    assert labels["cifar10"].names == CLASSIFY_CLASSES
    assert labels["smol-detect"].names == DETECT_CLASSES


def test_logits_are_divided_by_the_temperature() -> None:
    network = SmolClassify().eval()
    picture = torch.rand(2, 3, 32, 32)
    before = network(picture)
    network.temperature.fill_(2.0)
    assert torch.allclose(network(picture), before / 2, atol=1e-6)


def test_boxes_are_distances_from_the_middle_of_each_cell_in_strides() -> None:
    network = SmolDetect().eval()
    torch.nn.init.zeros_(network.sides.weight)
    torch.nn.init.constant_(network.sides.bias, 0.5413)  # softplus gives 1.
    rows = network(torch.rand(1, 3, 64, 96))[0]
    assert rows.shape == (12 * 8 + 6 * 4 + 3 * 2, 4 + len(DETECT_CLASSES))
    expected = {0: [-4, -4, 12, 12], 13: [4, 4, 20, 20], 96: [-8, -8, 24, 24], 121: [16, -16, 80, 48]}
    for row, corners in expected.items():
        assert rows[row, :4].tolist() == pytest.approx(corners, abs=0.01)


def test_an_exported_detector_sees_the_same_at_every_size(tmp_path: Path) -> None:
    """As `training/export.py` does it: one file, and both engines agree on what it sees at any multiple of 32."""
    pytest.importorskip("onnx", reason="onnx is for training")
    torch.manual_seed(0)
    network = SmolDetect().eval()
    path = tmp_path / "detector.onnx"
    axes = {"image": {2: "height", 3: "width"}, "boxes": {1: "cells"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the exporter, about shapes it takes for constants: a test is better.
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 64, 64),),
            path,
            input_names=["image"],
            output_names=["boxes"],
            opset_version=17,
            dynamo=False,
            dynamic_axes=axes,
        )
    engine = OnnxEngine.load(path, threads=1)
    for height, width in ((64, 64), (96, 64), (256, 320)):
        picture = torch.randn(1, 3, height, width)
        with torch.inference_mode():
            expected = network(picture).numpy()
        found = engine.run({"image": picture.numpy()})["boxes"]
        assert found.shape == (1, height * width * 21 // 1024, 4 + len(DETECT_CLASSES))
        assert abs(found - expected).max() < 1e-3


def test_probabilities_start_low_so_that_nothing_is_seen_in_noise() -> None:
    torch.manual_seed(0)
    scores = SmolDetect().eval()(torch.rand(1, 3, 64, 64))[0, :, 4:].detach()
    assert 0 < float(scores.min()) <= float(scores.max()) < 0.2
