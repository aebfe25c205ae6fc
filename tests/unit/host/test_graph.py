from __future__ import annotations

from smol.host.graph import render_dot, render_text
from smol.host.manifest import Manifest


def unit(name: str, **more: object) -> Manifest:
    return Manifest(name=name, class_path="a:B", **more)  # type: ignore[arg-type]


UNITS = [
    unit("web", needs=("api", "gone"), worker="gateway"),
    unit("api", needs=("store",), worker="gateway"),
    unit("store"),
    unit("detect", fallback="classify"),
    unit("classify"),
]


def test_each_unit_stands_above_what_it_needs() -> None:
    assert render_text(UNITS).splitlines() == [
        "classify",
        "detect (else classify)",
        "web [gateway]",
        "├─ api [gateway]",
        "│  └─ store",
        "└─ gone (not there)",
    ]


def test_the_graph_in_dot_boxes_the_workers_and_marks_what_is_missing() -> None:
    lines = [line.strip() for line in render_dot(UNITS).splitlines()]
    assert lines[0] == "digraph smol {"
    assert lines[-1] == "}"
    assert 'subgraph "cluster_gateway" { label="gateway"; "api"; "web"; }' in lines
    assert '"api" -> "store";' in lines
    assert '"web" -> "gone" [color=red];' in lines
    assert '"detect" -> "classify" [style=dotted];' in lines
