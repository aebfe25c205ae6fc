"""The embedded networks as torch modules: what `training/` trains and exports, and the torch engine runs.

Plain 3x3 convolutions throughout: on CPUs they train three times as fast as depthwise ones. Importing
this module imports torch. Covers neither losses nor data, nor how pictures become inputs.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["CLASSIFY_CLASSES", "DETECT_CLASSES", "Block", "SmolClassify", "SmolDetect", "conv"]

CLASSIFY_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DETECT_CLASSES: Final = ("person", "cat", "dog", "horse", "sheep", "cow")
STRIDES: Final = (8, 16, 32)


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):  # type: ignore[misc]  # Torch is not type-checked.
    """Two convolutions with a shortcut (He et al. 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class SmolClassify(nn.Module):  # type: ignore[misc]
    """[b, 3, 32, 32] -> logits [b, 10] over CLASSIFY_CLASSES, in use divided by the temperature.

    temperature: a buffer, fitted after training, so that softmax gives probabilities (Guo et al. 2017).
    """

    temperature: Tensor

    def __init__(self, classes: int = len(CLASSIFY_CLASSES)) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 24),
            conv(24, 40, stride=2),
            Block(40),
            conv(40, 80, stride=2),
            Block(80),
            conv(80, 128, stride=2),
        )
        self.head = nn.Linear(128, classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """In use, the mean of what a picture and its mirror image give: a point better for twice the work."""
        if self.training:
            return self.logits(x)
        plain, mirrored = self.logits(torch.cat((x, x.flip(3)))).chunk(2)
        return (plain + mirrored) / (2 * self.temperature)

    def logits(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)  # [b, 128, 4, 4]
        result: Tensor = self.head(features.mean(dim=(2, 3)))
        return result


class SmolDetect(nn.Module):  # type: ignore[misc]
    """[b, 3, height, width] -> [b, n, 4 + classes]: x1, y1, x2, y2 in input pixels, then probabilities.

    n is the number of cells of strides 8, 16 and 32; both sides must be multiples of 32. Every cell
    gives one box, by its distances to the four sides in units of its stride (Tian et al. 2019), with
    a probability for each class on its own; there is no objectness.
    """

    def __init__(self, classes: int = len(DETECT_CLASSES), neck: int = 56) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2))
        self.stage8 = nn.Sequential(conv(32, 56, stride=2), Block(56))
        self.stage16 = nn.Sequential(conv(56, 96, stride=2), Block(96))
        self.stage32 = nn.Sequential(conv(96, 112, stride=2), Block(112))
        self.lateral = nn.ModuleList(conv(width, neck, 1) for width in (56, 96, 112))
        # Each level has convolutions of its own: normalised by statistics shared between the levels,
        # a tower behaves otherwise in use than in training, where every level has its own.
        self.merge = nn.ModuleList(conv(neck, neck) for _ in STRIDES)
        self.tower = nn.ModuleList(conv(neck, neck) for _ in STRIDES)
        self.scores = nn.Conv2d(neck, classes, 1)  # Shared by the levels, as is the other output.
        self.sides = nn.Conv2d(neck, 4, 3, padding=1)
        nn.init.constant_(self.scores.bias, -4.6)  # A prior of 1 %: Lin et al. 2017.
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.constant_(self.sides.bias, 2.0)  # Boxes of four strides to begin with.

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of strides 8, 16 and 32: [b, 56, h/8, w/8], [b, 96, h/16, w/16], [b, 112, h/32, w/32]."""
        c8 = self.stage8(self.stem(x))
        c16 = self.stage16(c8)
        return c8, c16, self.stage32(c16)

    def levels(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each stride: class logits [b, classes, h, w], and distances to the sides [b, 4, h, w] in strides."""
        p8, p16, p32 = (lateral(c) for lateral, c in zip(self.lateral, self.features(x), strict=True))
        p16 = p16 + nn.functional.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = p8 + nn.functional.interpolate(p16, scale_factor=2.0, mode="nearest")
        result = []
        for merge, tower, p in zip(self.merge, self.tower, (p8, p16, p32), strict=True):
            p = tower(merge(p))
            result.append((self.scores(p), nn.functional.softplus(self.sides(p))))
        return result

    def forward(self, x: Tensor) -> Tensor:
        logits, boxes, _, _ = self.decode(x)
        return torch.cat((boxes, logits.sigmoid()), dim=2)

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits [b, n, classes], corners [b, n, 4] in pixels; of the cells: centres [n, 2], strides [n, 1]."""
        logits, sides, centres, steps = [], [], [], []
        for stride, (score, side) in zip(STRIDES, self.levels(x), strict=True):
            height, width = x.shape[2] // stride, x.shape[3] // stride
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centre = torch.stack((columns, rows), dim=2).reshape(-1, 2).float() + 0.5
            centres.append((centre * stride).to(x.device))
            steps.append(torch.full((height * width, 1), float(stride), device=x.device))
            logits.append(score.flatten(2).transpose(1, 2))
            sides.append(side.flatten(2).transpose(1, 2))
        centre, step = torch.cat(centres), torch.cat(steps)
        distance = torch.cat(sides, dim=1) * step
        boxes = torch.cat((centre - distance[..., :2], centre + distance[..., 2:]), dim=2)
        return torch.cat(logits, dim=1), boxes, centre, step
