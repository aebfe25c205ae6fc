"""MobileNetV3 and SSDlite as torch modules whose weights are named as torchvision names them.

So that torchvision's published weights can be loaded without torchvision. Sources: Howard et al. 2019 (tables 1
and 2, section 6.3), Liu et al. 2016 (default boxes). Importing this module imports torch. Covers inference only.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["COCO_IDS", "MobileNetV3", "SsdLite", "mobilenet_v3_large", "mobilenet_v3_small"]

# COCO 2017 numbers its 80 classes with gaps; SSDlite has a score for each number of 0 (background) to 90.
_UNUSED: Final = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS: Final = tuple(number for number in range(1, 91) if number not in _UNUSED)
_EPSILON: Final = 0.001


class Stage(NamedTuple):
    """One inverted residual: kernel, expanded and output channels, squeeze-excitation, hard swish, stride."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    swish: bool
    stride: int


def _large(tail: int = 1) -> tuple[Stage, ...]:
    """tail: what the channels of the last stages are divided by."""
    last, wide = 160 // tail, 960 // tail
    return (
        Stage(3, 16, 16, False, False, 1), Stage(3, 64, 24, False, False, 2), Stage(3, 72, 24, False, False, 1),
        Stage(5, 72, 40, True, False, 2), Stage(5, 120, 40, True, False, 1), Stage(5, 120, 40, True, False, 1),
        Stage(3, 240, 80, False, True, 2), Stage(3, 200, 80, False, True, 1), Stage(3, 184, 80, False, True, 1),
        Stage(3, 184, 80, False, True, 1), Stage(3, 480, 112, True, True, 1), Stage(3, 672, 112, True, True, 1),
        Stage(5, 672, last, True, True, 2), Stage(5, wide, last, True, True, 1),
        Stage(5, wide, last, True, True, 1),
    )  # fmt: skip


_SMALL: Final = (
    Stage(3, 16, 16, True, False, 2), Stage(3, 72, 24, False, False, 2), Stage(3, 88, 24, False, False, 1),
    Stage(5, 96, 40, True, True, 2), Stage(5, 240, 40, True, True, 1), Stage(5, 240, 40, True, True, 1),
    Stage(5, 120, 48, True, True, 1), Stage(5, 144, 48, True, True, 1), Stage(5, 288, 96, True, True, 2),
    Stage(5, 576, 96, True, True, 1), Stage(5, 576, 96, True, True, 1),
)  # fmt: skip


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution, batch normalisation, and an activation unless it is None."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=_EPSILON),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation]))


class Squeeze(nn.Module):  # type: ignore[misc]  # Torch is not type-checked.
    """Channels weighed by what the whole picture says of them (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        fewer = _divisible(channels // 4)
        self.fc1 = nn.Conv2d(channels, fewer, 1)
        self.fc2 = nn.Conv2d(fewer, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * nn.functional.hardsigmoid(self.fc2(torch.relu(self.fc1(mean))))


class Residual(nn.Module):  # type: ignore[misc]
    """Widen, filter each channel, weigh, narrow; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        activation = nn.Hardswish if stage.swish else nn.ReLU
        wide = stage.expanded
        layers: list[nn.Module] = []
        if wide != inputs:
            layers.append(_conv(inputs, wide, activation=activation()))
        layers.append(_conv(wide, wide, stage.kernel, stage.stride, wide, activation()))
        if stage.squeeze:
            layers.append(Squeeze(wide))
        layers.append(_conv(wide, stage.outputs))
        self.block = nn.Sequential(*layers)
        self.shortcut = stage.stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result + x if self.shortcut else result


def _features(stages: tuple[Stage, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, 16, 3, 2, activation=nn.Hardswish())]
    inputs = 16
    for stage in stages:
        layers.append(Residual(inputs, stage))
        inputs = stage.outputs
    return nn.Sequential(*layers, _conv(inputs, 6 * inputs, activation=nn.Hardswish()))


class MobileNetV3(nn.Module):  # type: ignore[misc]
    """[b, 3, 224, 224] -> logits [b, 1000] of ImageNet."""

    def __init__(self, stages: tuple[Stage, ...], hidden: int, classes: int = 1000) -> None:
        super().__init__()
        self.features = _features(stages)
        self.classifier = nn.Sequential(
            nn.Linear(6 * stages[-1].outputs, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def mobilenet_v3_small() -> MobileNetV3:
    """2,542,856 parameters."""
    return MobileNetV3(_SMALL, 1024)


def mobilenet_v3_large() -> MobileNetV3:
    """5,483,032 parameters."""
    return MobileNetV3(_large(), 1280)


class Extractor(nn.Module):  # type: ignore[misc]
    """Features of strides 16 and 32, then four smaller maps; [b, 3, 320, 320] -> sides 20, 10, 5, 3, 2, 1."""

    channels: Final = (672, 480, 512, 256, 256, 128)

    def __init__(self) -> None:
        super().__init__()
        body = list(_features(_large(tail=2)))
        split = body[13]  # The expansion of the last stage of stride 2 is the first map.
        self.features = nn.Sequential(
            nn.Sequential(*body[:13], split.block[0]), nn.Sequential(split.block[1:], *body[14:])
        )
        pairs = zip(self.channels[1:], self.channels[2:], strict=False)
        self.extra = nn.ModuleList(_smaller(inputs, outputs) for inputs, outputs in pairs)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for block in (*self.features, *self.extra):
            x = block(x)
            maps.append(x)
        return maps


def _smaller(inputs: int, outputs: int) -> nn.Sequential:
    half = outputs // 2
    return nn.Sequential(
        _conv(inputs, half, activation=nn.ReLU6()),
        _conv(half, half, 3, 2, half, nn.ReLU6()),
        _conv(half, outputs, activation=nn.ReLU6()),
    )


class Predictor(nn.Module):  # type: ignore[misc]
    """Maps -> [b, boxes, columns], boxes by map, row, column and shape."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.module_list = nn.ModuleList(
            nn.Sequential(
                _conv(width, width, 3, groups=width, activation=nn.ReLU6()), nn.Conv2d(width, 6 * columns, 1)
            )
            for width in Extractor.channels
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        rows = [
            module(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.columns)
            for module, x in zip(self.module_list, maps, strict=True)
        ]
        return torch.cat(rows, dim=1)


class SsdLite(nn.Module):  # type: ignore[misc]
    """[b, 3, 320, 320] -> [b, 3234, 4 + 80]: corners in input pixels, then probabilities of COCO's classes.

    3,440,060 parameters.
    """

    boxes: Tensor
    kept: Tensor

    def __init__(self, classes: int = 91, side: int = 320) -> None:
        super().__init__()
        self.backbone = Extractor()
        self.head = nn.ModuleDict({"classification_head": Predictor(classes), "regression_head": Predictor(4)})
        self.register_buffer("boxes", default_boxes((20, 10, 5, 3, 2, 1)) * side, persistent=False)
        self.register_buffer("kept", torch.tensor(COCO_IDS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        moves = self.head["regression_head"](maps)
        centre = self.boxes[:, :2] + moves[..., :2] / 10 * self.boxes[:, 2:]  # Scaled as in the paper: 10 and 5.
        half = self.boxes[:, 2:] * (moves[..., 2:] / 5).clamp(max=math.log(1000 / 16)).exp() / 2
        probabilities = self.head["classification_head"](maps).softmax(dim=2)[..., self.kept]
        return torch.cat((centre - half, centre + half, probabilities), dim=2)


def default_boxes(sides: tuple[int, ...]) -> Tensor:
    """[n, 4] centre, width and height as parts of the picture, six shapes at each place of each map.

    Scales rise from 0.2 to 0.95; shapes are two squares, and 2:1, 1:2, 3:1 and 1:3.
    """
    scales = [0.2 + 0.75 * level / (len(sides) - 1) for level in range(len(sides))] + [1.0]
    levels = []
    for level, side in enumerate(sides):
        scale, between = scales[level], math.sqrt(scales[level] * scales[level + 1])
        shapes = [(scale, scale), (between, between)]
        for ratio in (2, 3):
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        size = torch.tensor(shapes).clamp(0, 1)
        place = (torch.arange(side) + 0.5) / side
        rows, columns = torch.meshgrid(place, place, indexing="ij")
        centre = torch.stack((columns, rows), dim=2).reshape(-1, 1, 2).expand(-1, 6, 2)
        levels.append(torch.cat((centre, size.expand(len(centre), 6, 2)), dim=2).reshape(-1, 4))
    return torch.cat(levels)


def _divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple, and never more than a tenth below."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
