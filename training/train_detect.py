"""Train smol-detect: on boxes that people drew, and on what a larger network sees (distillation by boxes).

Which cells answer for a box is decided by how well they do already (task alignment, Feng et al. 2021);
a cell's target is its overlap with the box times the box's scores, which both losses weigh by. A teacher's box
brings its probabilities of all classes, so that what it takes for a cat or perhaps a dog is learned as that.
Beside it the trunk learns to tell the small pictures of CIFAR-10 apart, of which there are more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from data import MEAN, STD, TAUGHT_CLASSES, Scenes, augment, crop_and_flip, load_cifar, load_scenes
from loop import Run, choose_device, parse_arguments
from torch import Tensor, nn

from smol.models.networks import CLASSIFY_CLASSES, SmolDetect

CELLS_PER_BOX = 10
STAGES = ((0.0, 192), (0.4, 256))
"""From which share of the budget on, which side of the input in pixels: small ones are seen more often."""
MOSAIC_SHARE, NO_MOSAIC_FROM = 0.5, 0.85
SMALL_PICTURES = 48
"""Of CIFAR-10 in every batch."""
BOX_WEIGHT, SMALL_WEIGHT = 4.0, 0.2


class Student(SmolDetect):
    """The detector with one more output, for training alone: the classes of CIFAR-10."""

    def __init__(self) -> None:
        super().__init__(len(TAUGHT_CLASSES))
        self.recognise = nn.Linear(112, len(CLASSIFY_CLASSES))

    def recognise_small(self, x: Tensor) -> Tensor:
        """[b, 3, 64, 64] -> logits [b, 10]."""
        with own_statistics_only(self):
            return self.recognise(self.features(x)[2].float().mean(dim=(2, 3)))


def main() -> None:
    options = parse_arguments(__doc__ or "", minutes=80, batch=32)
    options.runs.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device()
    scenes = load_scenes(options.data, options.runs, options.teacher)
    if options.limit:
        scenes = Scenes(*(part[: options.limit] for part in scenes))
    small = load_cifar(options.data, "train", options.runs)
    counts = (scenes.scores > 0.3).sum(dim=(0, 1)).tolist()
    print(f"{len(scenes.images)} pictures, boxes:", dict(zip(TAUGHT_CLASSES, counts, strict=True)))
    model = Student().to(device, memory_format=torch.channels_last)
    run = Run("smol-detect", model, peak_rate=2e-3, options=options, adaptive=True)
    order = draw(scenes, options.batch)
    painter = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
    views = painter.submit(augment, scenes, next(order), *plan(0.0))
    while run.fraction < 1:
        seen = []
        for _ in range(50):
            ready = views.result()
            views = painter.submit(augment, scenes, next(order), *plan(run.fraction))
            losses = step(model, ready, sample_small(*small), device)
            run.step(losses[0] + BOX_WEIGHT * losses[1] + SMALL_WEIGHT * losses[2])
            seen.append([loss.item() for loss in losses])
            if run.fraction >= 1:
                break
        score_loss, box_loss, small_loss = np.mean(seen, axis=0).tolist()
        run.note(score_loss=score_loss, box_loss=box_loss, small_loss=small_loss)
        run.save(every_seconds=90)
    run.save()


def plan(fraction: float) -> tuple[int, float]:
    """Side of the input and share of mosaics, by the share of the budget that is used."""
    side = next(side for share, side in reversed(STAGES) if fraction >= share)
    return side, MOSAIC_SHARE if fraction < NO_MOSAIC_FROM else 0.0


def draw(scenes: Scenes, batch: int) -> Iterator[np.ndarray]:
    """Endless batches of places in the list; pictures of people are drawn more often, for there are too few."""
    people = (scenes.scores[:, :, 0] > 0.4).any(dim=1)
    # Outside the animals people are rarely labelled 1, so this also favours varied scenes.
    weight = 1.0 + 0.7 * people.float()
    while True:
        chosen = torch.multinomial(weight, len(weight), replacement=True)
        for part in chosen.split(batch):
            if len(part) == batch:
                yield part.numpy()


def sample_small(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Some pictures of CIFAR-10 at twice their size, as inputs [b, 3, 64, 64], and their classes."""
    chosen = torch.randint(len(images), (SMALL_PICTURES,))
    large = nn.functional.interpolate(crop_and_flip(images[chosen]), scale_factor=2.0, mode="bilinear")
    return (large - MEAN) / STD, labels[chosen]


def step(
    model: Student, scenes: tuple[Tensor, ...], small: tuple[Tensor, ...], device: torch.device
) -> tuple[Tensor, ...]:
    """The losses of scores, boxes and small pictures."""
    views, corners, targets, small_views, labels = (part.to(device) for part in (*scenes, *small))
    # Brain floats halve the time where the processor has them, and lose nothing that could be measured.
    with torch.autocast(device.type, torch.bfloat16):
        decoded = model.decode(views.contiguous(memory_format=torch.channels_last))
        logits = model.recognise_small(small_views.contiguous(memory_format=torch.channels_last))
    losses = losses_of(*(part.float() for part in decoded), corners, targets)
    return *losses, nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)


@contextlib.contextmanager
def own_statistics_only(model: nn.Module) -> Iterator[None]:
    """Batch normalisation that does not remember: the small pictures' statistics are not those of use."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momentum = layers[0].momentum
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer in layers:
            layer.momentum = momentum


def losses_of(
    logits: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, corners: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Of classes and of boxes, for n cells and m true boxes.

    logits [b, n, c], boxes [b, n, 4], centres [n, 2], strides [n, 1], corners [b, m, 4], scores [b, m, c]
    """
    best, weight = assign(logits.detach(), boxes.detach(), centres, strides, corners, scores)
    target_box = corners.gather(1, best[..., None].expand(-1, -1, 4))
    target = scores.gather(1, best[..., None].expand(-1, -1, scores.shape[2])) * weight[..., None]
    total = target.sum().clamp(min=1.0)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    positive = weight > 0
    share = target.sum(dim=2)[positive]
    box_loss = ((1 - generalised_overlap(boxes[positive], target_box[positive])) * share).sum()
    return entropy / total, box_loss / total


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, corners: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """For each cell the box it answers for [b, n], and with what weight of 0 to 1: 0 where for none."""
    surest = scores.amax(dim=2)  # [b, m]
    picture, place = surest.nonzero(as_tuple=True)  # Of the k boxes there are; most places are unused.
    x, y, stride = centres[:, 0], centres[:, 1], strides[:, 0]
    x1, y1, x2, y2 = corners[picture, place].unsqueeze(2).unbind(1)  # each [k, 1]
    # A cell may answer if its centre lies in the box, or within a stride of the middle of a small one.
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    away = torch.maximum((x - middle_x).abs(), (y - middle_y).abs())  # [k, n]
    inside = ((x - middle_x).abs() < (x2 - x1) / 2) & ((y - middle_y).abs() < (y2 - y1) / 2)
    small = torch.maximum(x2 - x1, y2 - y1) < 2 * strides.min()
    allowed = inside | ((away < stride) & small & (stride == stride.min()))
    overlap = plain_overlap(boxes[picture], corners[picture, place][:, None]) * allowed  # [k, n]
    # By the scores' own mixture: a box's likeliest classes decide who is sure of it.
    mixture = scores / scores.sum(dim=2, keepdim=True).clamp(min=1e-6)
    certainty = (mixture @ logits.sigmoid().transpose(1, 2))[picture, place]
    # Nearness to the middle breaks ties as long as the boxes are still arbitrary.
    near = torch.exp(-8 * away / torch.maximum(x2 - x1, y2 - y1).clamp(min=1.0))
    quality = (certainty.sqrt() * overlap**4 + 1e-6 * near) * allowed
    least = quality.topk(CELLS_PER_BOX, dim=1).values[:, -1:]
    quality = quality * (quality >= least)
    # Of each box, the best cell is to reach the box's best overlap, the others in proportion.
    aim = (overlap * (quality > 0)).amax(dim=1, keepdim=True).clamp(min=0.1)
    weight = quality / quality.amax(dim=1, keepdim=True).clamp(min=1e-12) * aim
    # Where boxes compete for a cell, the surer one gets it.
    claims = weight.new_zeros(*surest.shape, len(centres))
    claims[picture, place] = weight * surest[picture, place, None]
    strongest = claims.max(dim=1)
    return strongest.indices, strongest.values / surest.gather(1, strongest.indices).clamp(min=1e-6)


def plain_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4]."""
    shared, union, _ = _areas(a, b)
    return shared / union


def generalised_overlap(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019): falls below 0 as boxes part."""
    shared, union, hull = _areas(a, b)
    return shared / union - (hull - union) / hull


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    extent = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    shared = extent.prod(dim=-1)
    union = (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1) - shared
    return shared, union.clamp(min=1e-6), hull.prod(dim=-1).clamp(min=1e-6)


if __name__ == "__main__":
    main()
