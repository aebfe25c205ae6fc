from __future__ import annotations

from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="onnx is an extra")

from smol.cli.int8 import kept_in_float  # noqa: E402


def node(kind: str, source: str, result: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, [source, *attributes.pop("more", ())], [result], result, **attributes)


def network(*nodes: Any, outputs: tuple[str, ...]) -> Any:
    """Edges are named after the nodes that they come from."""
    values = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("picture", *outputs)]
    return onnx.helper.make_model(onnx.helper.make_graph(list(nodes), "net", values[:1], values[1:]))


def test_a_detector_keeps_its_first_depthwise_and_last_convolutions_in_float() -> None:
    made = network(
        node("Conv", "picture", "first"),
        node("Conv", "first", "wide"),
        node("Conv", "wide", "each", group=8),
        node("Relu", "each", "relu"),
        node("Conv", "relu", "deep"),
        node("Conv", "deep", "scores"),
        node("Conv", "deep", "sides"),
        node("Sigmoid", "scores", "sigmoid"),
        node("Concat", "sigmoid", "rows", more=("sides",), axis=1),
        outputs=("rows",),
    )
    assert kept_in_float(made) == ["first", "each", "scores", "sides"]


def test_a_classifier_keeps_only_its_first_for_others_end_in_its_matrix() -> None:
    made = network(
        node("Conv", "picture", "first"),
        node("Conv", "first", "last"),
        node("GlobalAveragePool", "last", "pool"),
        node("Gemm", "pool", "logits", more=("weights",)),
        outputs=("logits",),
    )
    assert kept_in_float(made) == ["first"]


def test_a_classifier_that_ends_in_a_convolution_has_most_of_its_weights_there() -> None:
    made = network(
        node("Conv", "picture", "first"),
        node("Conv", "first", "logits"),
        node("Flatten", "logits", "flat"),
        outputs=("flat",),
    )
    assert kept_in_float(made, keep_last=False) == ["first"]
    assert kept_in_float(made, keep_last=True) == ["first", "logits"]


def test_a_branch_that_is_read_twice_is_followed_once() -> None:
    made = network(
        node("Conv", "picture", "first"),
        node("Conv", "first", "twice"),
        *(node("Add", f"sum{n - 1}" if n else "twice", f"sum{n}", more=(f"sum{n - 1}",)) for n in range(1, 60)),
        node("Conv", "sum59", "last"),
        outputs=("last",),
    )
    made.graph.node[2].input[0] = made.graph.node[2].input[1] = "twice"
    assert kept_in_float(made) == ["first", "last"]
