"""What both trainings share: a schedule over wall-clock time, averaged weights, checkpoints, curves.

Training stops when its budget of minutes is spent, on whatever machine: the learning rate falls with the
share of the budget used, so a run is complete whether it saw five epochs or five hundred.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from torch import nn


def parse_arguments(description: str, minutes: float, batch: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder of datasets")
    parser.add_argument("--teacher", type=Path, help="the teacher's ONNX file (detector only)")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "runs", help="caches and checkpoints")
    parser.add_argument("--minutes", type=float, default=minutes, help="budget of training itself")
    parser.add_argument(
        "--limit", type=int, default=0, help="train on the first pictures alone, to see it overfit"
    )
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--threads", type=int, default=0, help="0: torch decides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--start", type=Path, help="checkpoint whose averaged weights a new schedule begins with")
    return parser.parse_args()


def choose_device() -> torch.device:
    return torch.accelerator.current_accelerator() or torch.device("cpu")


class Run:
    """A network in training: optimiser, schedule, averaged weights and what was measured, kept on disk."""

    def __init__(
        self, name: str, model: nn.Module, peak_rate: float, options: argparse.Namespace, adaptive: bool = False
    ) -> None:
        self.path = options.runs / f"{name}.pt"
        self.model = model
        if options.start:
            model.load_state_dict(torch.load(options.start, weights_only=True, map_location="cpu")["average"])
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        decay = 0.05 if adaptive else 5e-4
        groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser: torch.optim.Optimizer
        if adaptive:
            self.optimiser = torch.optim.AdamW(groups, lr=peak_rate)
        else:
            self.optimiser = torch.optim.SGD(groups, lr=peak_rate, momentum=0.9, nesterov=True)
        self.peak_rate = peak_rate
        self.budget_seconds = options.minutes * 60
        self.spent_seconds = 0.0
        self.step_count = 0
        self.history: list[dict[str, float]] = []
        if options.resume and self.path.exists():
            self._load()
        self._began = time.monotonic() - self.spent_seconds
        self._saved = self.spent_seconds

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self.spent_seconds / self.budget_seconds)

    def step(self, loss: torch.Tensor) -> None:
        """One update; the rate rises over the first 4 % of the budget and falls as a cosine after it."""
        warm = min(1.0, self.fraction / 0.04)
        rate = self.peak_rate * max(1e-3, min(warm, 0.5 * (1 + math.cos(math.pi * self.fraction))))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimiser.step()
        self.step_count += 1
        self._follow(min(0.998, (1 + self.step_count) / (10 + self.step_count)))
        self.spent_seconds = time.monotonic() - self._began

    def note(self, **figures: float) -> None:
        """Remember figures for the curves, and print them."""
        figures = {"minutes": self.spent_seconds / 60, "steps": self.step_count, **figures}
        self.history.append(figures)
        print(" ".join(f"{key}={value:.4g}" for key, value in figures.items()), flush=True)

    def save(self, every_seconds: float = 0.0) -> None:
        """Write a checkpoint, unless the last one is younger than that."""
        if every_seconds and self.spent_seconds - self._saved < every_seconds:
            return
        self._saved = self.spent_seconds
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "spent_seconds": self.spent_seconds,
                "step_count": self.step_count,
                "history": self.history,
            },
            part,
        )
        part.replace(self.path)
        for eighth in range(1, int(self.fraction * 8) + 1):
            snapshot = self.path.with_suffix(f".{eighth}of8.pt")
            if not snapshot.exists():  # For the curve of accuracy over time, which `evaluate` draws.
                torch.save({"average": self.average.state_dict(), "spent_seconds": self.spent_seconds}, snapshot)
        self.path.with_suffix(".json").write_text(json.dumps(self.history))
        draw_curves(self.history, self.path.with_suffix(".png"))

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.spent_seconds, self.step_count = state["spent_seconds"], state["step_count"]
        self.history = state["history"]

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        ours, theirs = self.average.state_dict(), self.model.state_dict()
        for key, value in ours.items():
            if value.is_floating_point():
                value.lerp_(theirs[key], 1 - keep)
            else:
                value.copy_(theirs[key])


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """One panel for each figure over minutes; nothing without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    names = sorted({name for row in history for name in row} - {"minutes", "steps"})
    if not names:
        return
    figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        rows = [row for row in history if name in row]
        axis.plot([row["minutes"] for row in rows], [row[name] for row in rows])
        axis.set_xlabel("minutes")
        axis.set_title(name)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
