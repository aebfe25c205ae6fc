"""Train smol-classify: ten classes of 32 px pictures, with other pictures as outliers.

A share of every batch shows things outside the classes, for which no class is right: its target is the
uniform distribution (Hendrycks et al. 2019). 2500 training pictures are held out, to fit the
temperature and where the network is unsure.
"""

from __future__ import annotations

import torch
from data import crop_and_flip, load_cifar, load_outliers
from loop import Run, choose_device, parse_arguments
from torch import Tensor, nn

from smol.models.networks import SmolClassify

HELD_OUT = 2500
OUTLIER_SHARE = 0.07
MEAN, STD = 127.5, 63.75


def main() -> None:
    options = parse_arguments(__doc__ or "", minutes=60, batch=128)
    options.runs.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device()
    images, labels = load_cifar(options.data, "train", options.runs)
    held, kept = split(len(images))
    outliers = load_outliers(options.data, options.runs)
    model = SmolClassify().to(device, memory_format=torch.channels_last)
    run = Run("smol-classify", model, peak_rate=0.1, options=options)
    outlier_count = round(options.batch * OUTLIER_SHARE)
    while run.fraction < 1:
        losses = []
        batches = kept[torch.randperm(len(kept))].split(options.batch - outlier_count)[:-1]
        for chosen in batches:
            extra = outliers[torch.randint(len(outliers), (outlier_count,))]
            inputs = prepare(crop_and_flip(torch.cat((images[chosen], extra))), device)
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(inputs).float()
            loss = loss_of(logits, labels[chosen].to(device))
            run.step(loss)
            losses.append(loss.item())
            if run.fraction >= 1:
                break
        logits = logits_of(run.average, images[held], device)
        run.note(loss=sum(losses) / len(losses), held_out=accuracy(logits, labels[held]))
        run.save(every_seconds=240)
    run.average.temperature.fill_(1.0)
    run.average.temperature.fill_(fit_temperature(logits_of(run.average, images[held], device), labels[held]))
    run.note(temperature=float(run.average.temperature))
    run.save()


def split(count: int) -> tuple[Tensor, Tensor]:
    """Places of the training pictures held out, and of the others; the same each time."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    return order[:HELD_OUT], order[HELD_OUT:]


def prepare(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [b, 3, 32, 32] -> float."""
    return ((images.float() - MEAN) / STD).to(device, memory_format=torch.channels_last)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with smoothed labels [n]; the rows of `logits` beyond n are outliers."""
    known, unknown = logits[: len(labels)], logits[len(labels) :]
    uniform = -unknown.log_softmax(dim=1).mean()
    return nn.functional.cross_entropy(known, labels, label_smoothing=0.05) + 0.1 * uniform


@torch.inference_mode()
def logits_of(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    return torch.cat([model(prepare(part, device)).cpu() for part in images.split(500)])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The divisor of the logits with the least cross-entropy, of a fine grid."""
    choices = torch.linspace(0.3, 3.0, 271)
    losses = torch.stack([nn.functional.cross_entropy(logits / choice, labels) for choice in choices])
    return choices[losses.argmin()].item()


if __name__ == "__main__":
    main()
