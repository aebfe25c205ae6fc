from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra")

from smol.models.mobilenet import COCO_IDS, SsdLite, default_boxes, mobilenet_v3_large, mobilenet_v3_small  # noqa: E402


@pytest.mark.parametrize(
    ("build", "parameters", "tensors"),
    [(mobilenet_v3_small, 2_542_856, 244), (mobilenet_v3_large, 5_483_032, 312), (SsdLite, 3_440_060, 476)],
)
def test_a_network_has_the_size_that_was_published(build: type, parameters: int, tensors: int) -> None:
    module = build()
    assert sum(each.numel() for each in module.parameters()) == parameters
    assert len(module.state_dict()) == tensors


def test_weights_are_named_as_in_the_published_files() -> None:
    small = mobilenet_v3_small().state_dict()
    assert small["features.0.0.weight"].shape == (16, 3, 3, 3)
    assert small["features.1.block.0.0.weight"].shape == (16, 1, 3, 3)
    assert small["features.1.block.1.fc1.weight"].shape == (8, 16, 1, 1)
    assert small["features.12.1.running_var"].shape == (576,)
    assert small["classifier.0.weight"].shape == (1024, 576)
    assert small["classifier.3.weight"].shape == (1000, 1024)
    lite = SsdLite().state_dict()
    assert lite["backbone.features.0.0.0.weight"].shape == (16, 3, 3, 3)
    assert lite["backbone.features.0.13.0.weight"].shape == (672, 112, 1, 1)
    assert lite["backbone.features.1.0.1.0.weight"].shape == (672, 1, 5, 5)
    assert lite["backbone.features.1.3.0.weight"].shape == (480, 80, 1, 1)
    assert lite["backbone.extra.0.0.0.weight"].shape == (256, 480, 1, 1)
    assert lite["head.classification_head.module_list.0.0.0.weight"].shape == (672, 1, 3, 3)
    assert lite["head.classification_head.module_list.0.1.weight"].shape == (546, 672, 1, 1)
    assert lite["head.regression_head.module_list.5.1.bias"].shape == (24,)


def test_there_are_80_classes_of_coco_among_its_90_numbers() -> None:
    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[-1]) == (80, 1, 90)
    assert COCO_IDS.index(18) == 16  # The dog.


def test_default_boxes_are_those_of_the_paper() -> None:
    boxes = default_boxes((20, 10, 5, 3, 2, 1))
    assert boxes.shape == (3234, 4)
    assert boxes[0].tolist() == pytest.approx([0.025, 0.025, 0.2, 0.2])
    assert boxes[2].tolist() == pytest.approx([0.025, 0.025, 0.2 * 2**0.5, 0.2 / 2**0.5])
    assert boxes[6, :2].tolist() == pytest.approx([0.075, 0.025])  # The next column.
    assert boxes[2400].tolist() == pytest.approx([0.05, 0.05, 0.35, 0.35])
    assert boxes[-6].tolist() == pytest.approx([0.5, 0.5, 0.95, 0.95])
    assert float(boxes[:, 2:].max()) == 1.0


def test_without_any_move_the_boxes_are_the_default_ones_in_pixels() -> None:
    module = SsdLite().eval()
    for predictor in module.head["regression_head"].module_list:
        torch.nn.init.zeros_(predictor[1].weight)
        torch.nn.init.zeros_(predictor[1].bias)
    for predictor in module.head["classification_head"].module_list:
        torch.nn.init.zeros_(predictor[1].weight)
        torch.nn.init.zeros_(predictor[1].bias)
    with torch.inference_mode():
        rows = module(torch.zeros(1, 3, 320, 320))[0]
    assert rows.shape == (3234, 84)
    assert rows[0, :4].tolist() == pytest.approx([8 - 32, 8 - 32, 8 + 32, 8 + 32], abs=1e-3)
    assert rows[:, 4:].min().item() == pytest.approx(1 / 91, abs=1e-6)
