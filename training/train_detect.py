"""Train smol-detect: on boxes that people drew, and on what a larger network sees (distillation by boxes).

Which cells answer for a box is decided by how well they do already (task alignment, Feng et al. 2021);
a cell's target is its overlap with the box times the box's score, which both losses weigh by.
"""

from __future__ import annotations

import torch
from data import augment, load_detection
from loop import Run, choose_device, parse_arguments
from torch import Tensor, nn

from smol.models.networks import SmolDetect

CELLS_PER_BOX = 9
STAGES = ((0.0, 160), (0.35, 192), (0.75, 256))
"""From which share of the budget on, which side of the input in pixels: small ones are seen more often."""
NO_MOSAIC_FROM = 0.75
MEAN, STD = 127.5, 63.75


def main() -> None:
    options = parse_arguments(__doc__ or "", minutes=180, batch=32)
    options.runs.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device()
    images, boxes, scores = load_detection(options.data, options.runs, options.teacher)
    print(f"{len(images)} pictures, {int((scores > 0).sum())} boxes:", (scores > 0).sum(dim=(0, 1)).tolist())
    model = SmolDetect().to(device, memory_format=torch.channels_last)
    run = Run("smol-detect", model, peak_rate=2e-3, options=options, adaptive=True)
    while run.fraction < 1:
        seen = []
        for _ in range(50):
            side = next(side for share, side in reversed(STAGES) if run.fraction >= share)
            mosaic = run.fraction < NO_MOSAIC_FROM and run.step_count % 3 == 0
            chosen = torch.randint(len(images), (options.batch * (4 if mosaic else 1),))
            batch = augment(images[chosen], boxes[chosen], scores[chosen], side, mosaic)
            inputs, corners, targets = (part.to(device) for part in batch)
            inputs = ((inputs - MEAN) / STD).contiguous(memory_format=torch.channels_last)
            losses = losses_of(*model.decode(inputs), corners, targets)
            run.step(losses[0] + 2.0 * losses[1])
            seen.append([loss.item() for loss in losses])
            if run.fraction >= 1:
                break
        score_loss, box_loss = torch.tensor(seen).mean(dim=0).tolist()
        run.note(score_loss=score_loss, box_loss=box_loss)
        run.save(every_seconds=240)
    run.save()


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
    probability = logits.detach().sigmoid()
    # Varifocal (Zhang et al. 2021): what is right counts by its target, what is wrong by how sure it is.
    focus = torch.where(target > 0, target, 0.75 * probability**2)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    positive = weight > 0
    share = target.sum(dim=2)[positive]
    box_loss = ((1 - generalised_overlap(boxes[positive], target_box[positive])) * share).sum()
    return (entropy * focus).sum() / total, box_loss / total


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, corners: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """For each cell the box it answers for [b, n], and with what weight of 0 to 1: 0 where for none."""
    x, y = centres[:, 0], centres[:, 1]
    x1, y1, x2, y2 = (corners[..., side, None] for side in range(4))  # each [b, m, 1]
    # A cell may answer if its centre lies in the box, or within a stride of the middle of a small one.
    reach = 1.0 * strides[:, 0]
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    inside = (torch.minimum(x - x1, x2 - x) > 0) & (torch.minimum(y - y1, y2 - y) > 0)
    near = ((x - middle_x).abs() < reach) & ((y - middle_y).abs() < reach)
    small = torch.maximum(x2 - x1, y2 - y1) < 2 * strides[:, 0]
    present = scores.sum(dim=2, keepdim=True) > 0  # [b, m, 1]
    allowed = (inside | (near & small & (strides[:, 0] == strides[0, 0]))) & present  # [b, m, n]
    overlap = plain_overlap(boxes[:, None], corners[:, :, None]) * allowed  # [b, m, n]
    certainty = torch.einsum("bnc,bmc->bmn", logits.sigmoid(), (scores > 0).float())
    # Nearness to the middle breaks ties as long as the boxes are still arbitrary.
    distance = ((x - middle_x) / (x2 - x1 + 1)) ** 2 + ((y - middle_y) / (y2 - y1 + 1)) ** 2
    quality = (certainty.sqrt() * overlap**4 + 1e-6 * torch.exp(-4 * distance)) * allowed
    least = quality.topk(CELLS_PER_BOX, dim=2).values[..., -1:]
    quality = torch.where((quality >= least) & (quality > 0), quality, 0.0)
    # Of each box, the best cell is to reach the box's best overlap, the others in proportion.
    reach_of = (overlap * (quality > 0)).amax(dim=2, keepdim=True).clamp(min=0.1)
    weight = quality / quality.amax(dim=2, keepdim=True).clamp(min=1e-12) * reach_of
    strongest = weight.max(dim=1)
    return strongest.indices, strongest.values


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
