"""What the unit counts of itself: runs by how they ended, what is ready and what waits, what holds the code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import get_args

from smol.sandbox.records import LAYERS, Isolation, Verdict
from smol.sdk import Metric

__all__ = ["Tally"]

_FIGURES = {
    "warm": "Sandboxes that are ready for a run.",
    "running": "Runs that are on, those in sessions left out.",
    "waiting": "Runs that wait for others to end.",
    "sessions": "Open sessions.",
}


class Tally:
    """Runs since the unit started."""

    def __init__(self) -> None:
        self._verdicts: Counter[str] = Counter()

    def count(self, verdict: Verdict) -> None:
        self._verdicts[verdict] += 1

    def metrics(self, isolation: Isolation, figures: Mapping[str, int]) -> list[Metric]:
        """figures: by the names that `_FIGURES` explains."""
        found = [Metric(name, text, figures[name]) for name, text in _FIGURES.items()]
        for verdict in get_args(Verdict):
            runs = self._verdicts[verdict]
            found.append(Metric("runs", "Runs by their verdict.", runs, "counter", {"verdict": verdict}))
        for layer in LAYERS:
            text = "1 for a layer in force, 0 for one that is missing."
            found.append(Metric("layer", text, int(layer in isolation.layers), labels={"layer": layer}))
        found.append(Metric("tier", "1 for the tier that holds the code.", 1, labels={"tier": isolation.tier}))
        return found
