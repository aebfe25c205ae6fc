"""Where PyTorch on the CPU is faster than numpy: the thresholds of `smol.units.linalg.kernels` come from here."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.report import Figure, median
from smol.units.linalg.kernels import KERNELS, TORCH_GAINS_FROM

__all__ = ["measure"]

SIDES = (256, 512, 1024)
RUNS = 3
_SLOW = {("eig", 512), ("eig", 1024), ("svd", 1024)}


def measure() -> list[Figure]:
    """Time on numpy over time on PyTorch, by computation and side; above 1, PyTorch is faster."""
    if find_spec("torch") is None:
        return []
    import torch

    figures = []
    for side in SIDES:
        for name, kernel in KERNELS.items():
            if (name, side) in _SLOW:
                continue
            arrays = _arguments(side)[: kernel.arrays]
            if name == "cholesky":
                arrays = [arrays[0] @ arrays[0].T + side * np.eye(side)]
            tensors = [torch.from_numpy(array) for array in arrays]
            bare = _milliseconds(partial(kernel.work, np, *arrays))
            other = _milliseconds(partial(kernel.work, torch, *tensors))
            gains = name in TORCH_GAINS_FROM and side >= TORCH_GAINS_FROM[name]
            figures.append(
                Figure(
                    f"{name} {side}",
                    bare / other,
                    "times",
                    target=1.0 if gains else None,
                    at_least=True,
                    note=f"numpy {bare:.1f} ms, torch {other:.1f} ms",
                )
            )
    return figures


def _arguments(side: int) -> list[Any]:
    rng = np.random.default_rng(side)
    return [rng.standard_normal((side, side)) for _ in range(2)]


def _milliseconds(work: Callable[[], Any]) -> float:
    work()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return median(times)
