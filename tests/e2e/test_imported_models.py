from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from smol.client import Connector
from smol.errors import NotFound

Start: TypeAlias = Callable[..., Connector]

FED = ("--channels", "rgb", "--mean", "0", "0", "0", "--std", "255", "255", "255")


def classifier(side: int | str = 8, scores: tuple[float, ...] = (0.0, 3.0)) -> onnx.ModelProto:
    """Answers always the same: mean of the picture times nothing, plus the scores."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, side, side])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(scores)])
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["zero"]),
        helper.make_node("Add", ["zero", "bias"], ["logits"]),
    ]
    weights = numpy_helper.from_array(np.zeros((3, len(scores)), np.float32), "weights")
    bias = numpy_helper.from_array(np.array(scores, np.float32), "bias")
    graph = helper.make_graph(nodes, "net", [picture], [logits], [weights, bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Models:
    """`smol models` with a home of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "smol.cli.main", "models", *map(str, arguments)],
            env={**os.environ, "SMOL_HOME": str(self._home)},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path / "home")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("nothing\nsomething\n")
    return path


@pytest.fixture
def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    return file.getvalue()


def test_an_imported_model_answers_in_a_running_host_until_it_is_removed(
    start: Start, models: Models, labels: Path, picture: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "My Net.onnx"
    onnx.save(classifier(), file)
    with start() as smol:
        smol.call("classify.image", {"image": picture})
        status, said = models("import", file, "--labels", labels, *FED)
        assert status == 0, said
        assert "smol classify image PICTURE --model my-net:8" in said
        found = smol.call("classify.image", {"image": picture, "model": "my-net"})
        assert found["classes"][0]["label"] == "something"
        assert found["classes"][0]["score"] == pytest.approx(np.exp(3) / (1 + np.exp(3)), abs=1e-3)
        assert found.get("unsure") is None
        assert models("remove", "my-net")[0] == 0
        with pytest.raises(NotFound, match="no model 'my-net'"):
            smol.call("classify.image", {"image": picture, "model": "my-net"})
        assert smol.call("classify.image", {"image": picture})["model"] != "my-net"


def test_probabilities_are_told_from_logits(models: Models, labels: Path, tmp_path: Path) -> None:
    onnx.save(classifier(scores=(0.25, 0.75)), tmp_path / "net.onnx")
    status, said = models("import", tmp_path / "net.onnx", "--labels", labels, *FED)
    assert (status, "read as probabilities" in said) == (0, True), said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "--labels"),
        (("--labels", "coco81"), "coco80"),
        (("--labels", "coco80", *FED), "80 names"),
        (("--labels", "LABELS"), "--channels, --mean, --std, or --like"),
        (("--labels", "LABELS", "--like", "mobilenet-v3"), "did you mean"),
        (("--labels", "LABELS", "--task", "detect"), "looks like --task classify"),
        (("--labels", "LABELS", "--head", "yolox", *FED), "of detectors"),
        (("--labels", "LABELS", "--name", "../x", *FED), "--name"),
        (("--labels", "LABELS", *FED[:-1], "0"), "zero"),
    ],
)
def test_what_the_file_does_not_tell_is_asked_for_by_option(
    options: tuple[str, ...], complaint: str, models: Models, labels: Path, tmp_path: Path
) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    given = [str(labels) if option == "LABELS" else option for option in options]
    status, said = models("import", tmp_path / "net.onnx", *given)
    assert status in (2, 3), said
    assert complaint in said
    assert "imported" not in models()[1]


def hostile() -> dict[str, tuple[bytes, str]]:
    good = classifier().SerializeToString()
    elsewhere = classifier()
    tensor = elsewhere.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    huge = classifier()
    huge.graph.initializer[0].dims[:] = [3_000_000, 2_000_000]
    greedy = classifier()
    shape = numpy_helper.from_array(np.array([40_000_000_000], np.int64), "shape")
    greedy.graph.initializer.append(shape)
    greedy.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["much"]))
    greedy.graph.node.append(helper.make_node("ReduceSum", ["much"], ["all"], keepdims=0))
    greedy.graph.node.append(helper.make_node("Add", ["logits", "all"], ["sum"]))
    greedy.graph.output[0].name = "sum"
    return {
        "cut off": (good[:-20], "was cut off"),
        "pickle": (pickle.dumps({"weights": 1}), "could run code"),
        "zip": (b"PK\x03\x04" + bytes(100), "could run code"),
        "elsewhere": (elsewhere.SerializeToString(), "never followed"),
        "huge tensor": (huge.SerializeToString(), "can't be used"),
        "greedy": (greedy.SerializeToString(), "the model"),
        "huge picture": (classifier(100_000).SerializeToString(), "at most 2048"),
        "no size": (classifier("side").SerializeToString(), "fixed height and width"),
        "empty": (b"", "empty"),
        "text": (b"not a model", "no ONNX model"),
    }


@pytest.mark.parametrize("what", hostile())
def test_a_hostile_file_is_refused_and_leaves_nothing(
    what: str, models: Models, labels: Path, tmp_path: Path
) -> None:
    data, complaint = hostile()[what]
    (tmp_path / "net.onnx").write_bytes(data)
    status, said = models("import", tmp_path / "net.onnx", "--labels", labels, *FED)
    assert status == 2, said
    assert complaint in said
    assert not list((tmp_path / "home").rglob("*.onnx"))
