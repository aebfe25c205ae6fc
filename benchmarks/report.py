"""Figures with their targets: a table for people, JSON to keep."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["RESULTS", "Figure", "keep", "median", "show"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    target: what it should be at most, or at least if `at_least`; None for a figure that is only told.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        reached = self.value >= self.target if self.at_least else self.value <= self.target
        return "reached" if reached else "MISSED"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a table."""
    print(f"\n{title}")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        target = "" if figure.target is None else f"{sign} {figure.target:g}"
        print(
            f"  {figure.name:<{width}}  {figure.value:>9.2f} {figure.unit:<5} {target:>8}  {figure.verdict:<8}"
            f"{figure.note}".rstrip()
        )


def keep(results: dict[str, Sequence[Figure]], name: str = "latest") -> Path:
    """Write all figures, with what they were measured on, as JSON."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load": round(os.getloadavg()[0], 1),
        },
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("msgspec", "numpy", "onnxruntime", "pillow", "uvloop")},
        "figures": {
            group: [{**asdict(figure), "verdict": figure.verdict} for figure in figures]
            for group, figures in results.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
