"""`python -m benchmarks.run [NAME]...`: measure, print, keep. `--keep FILE` keeps figures of some groups, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from benchmarks import calls, embedding, footprint, golang, linalg, memory, serving, vision
from benchmarks.report import Figure, keep, show
from benchmarks.serving import comparison

GROUPS: Mapping[str, tuple[str, Callable[[], list[Figure]]]] = {
    "footprint": ("What Smol takes before it works", footprint.measure),
    "calls": ("Round trips of a small call, beside one hop of grpc.aio", calls.measure),
    "memory": ("The governor: what it costs, and what it keeps from whom", memory.measure),
    "linalg": ("Linear algebra: numpy over PyTorch, both on the CPU", linalg.measure),
    "embedding": ("Texts found by a sentence of theirs, beside BM25 and bare words", embedding.measure),
    "golang": ("Go beside Python, through one host", golang.measure),
    "serving": ("HTTP, beside a bare echo of JSON", serving.measure),
    "peers": ("One classifier behind Smol and behind other servers", comparison.compare),
    "vision": ("Pictures, beside the bare work", vision.measure),
}


def main(names: list[str]) -> int:
    kept_as = ""
    if "--keep" in names[:-1]:
        at = names.index("--keep")
        kept_as = names.pop(at + 1)
        names.pop(at)
    unknown = set(names) - set(GROUPS)
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    results = {}
    for name in names or GROUPS:
        title, measure = GROUPS[name]
        results[name] = measure()
        if results[name]:
            show(title, results[name])
    if not names or kept_as:
        print(f"\nkept in {keep(results, kept_as or 'latest')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
