from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smol.engines import TensorSpec
from smol.engines.onnx import OnnxEngine
from smol.engines.torch import NetworkSpec, TorchEngine, choose_device, register_network
from smol.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound

X = np.random.default_rng(7).standard_normal((2, 3, 8, 8)).astype(np.float32)
TOLERANCE = 1e-3


class TinySpec:
    """The network of `model_bytes`, as torch has it."""

    inputs = (TensorSpec("x", (None, 3, 8, 8), "float32", "NCHW"),)
    outputs = (TensorSpec("y", (None, 4, 8, 8), "float32"),)

    @staticmethod
    def build() -> Any:
        torch = pytest.importorskip("torch")
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())

    spec = NetworkSpec(build, inputs, outputs)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is an extra")


@pytest.fixture
def weights(torch: Any, model_bytes: bytes) -> bytes:
    """The weights in `model_bytes`, as safetensors."""
    onnx = pytest.importorskip("onnx")
    safetensors = pytest.importorskip("safetensors.torch")
    register_network("tiny", TinySpec.spec)
    w, b = (onnx.numpy_helper.to_array(t) for t in onnx.load_model_from_string(model_bytes).graph.initializer)
    saved = safetensors.save({"0.weight": torch.tensor(w), "0.bias": torch.tensor(b)})
    return bytes(saved)


def test_both_engines_agree_on_the_same_weights(weights: bytes, model_bytes: bytes) -> None:
    expected = OnnxEngine.load(model_bytes).run({"x": X})["y"]
    engine = TorchEngine.load(weights, network="tiny")
    assert np.abs(engine.run({"x": X})["y"] - expected).max() < TOLERANCE


def test_both_engines_agree_on_the_same_onnx_file(torch: Any, model_file: Path) -> None:
    pytest.importorskip("onnx2torch")
    one, other = OnnxEngine.load(model_file), TorchEngine.load(model_file)
    assert one.inputs == other.inputs
    assert one.outputs == other.outputs
    assert np.abs(one.run({"x": X})["y"] - other.run({"x": X})["y"]).max() < TOLERANCE


def test_weights_of_another_network_are_refused(weights: bytes) -> None:
    wrong = TinySpec.spec._replace(build=lambda: pytest.importorskip("torch").nn.Linear(2, 2))
    register_network("linear", wrong)
    with pytest.raises(DataLoss, match="do not fit"):
        TorchEngine.load(weights, network="linear")


@pytest.mark.parametrize("size", [0, 7, 100])
def test_truncated_weights_are_refused(weights: bytes, size: int) -> None:
    with pytest.raises(DataLoss):
        TorchEngine.load(weights[:size], network="tiny")


def test_a_pickle_is_never_loaded(weights: bytes, torch: Any, tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}, tmp_path / "weights.pth")
    with pytest.raises(DataLoss):
        TorchEngine.load(tmp_path / "weights.pth", network="tiny")


def test_a_network_nobody_registered_is_named(weights: bytes) -> None:
    with pytest.raises(NotFound, match="did you mean 'tiny'"):
        TorchEngine.load(weights, network="tinny")


def test_a_name_stands_for_one_network() -> None:
    register_network("taken", TinySpec.spec)
    register_network("taken", TinySpec.spec)
    with pytest.raises(AlreadyExists, match="taken"):
        register_network("taken", TinySpec.spec._replace(outputs=()))


def test_inputs_are_checked_and_a_closed_model_says_so(weights: bytes) -> None:
    engine = TorchEngine.load(weights, network="tiny")
    with pytest.raises(InvalidArgument, match="float64"):
        engine.run({"x": X.astype(np.float64)})
    engine.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        engine.run({"x": X})


def test_the_cpu_is_the_default_device_and_auto_always_works(torch: Any, weights: bytes) -> None:
    assert choose_device() == choose_device("cpu") == "cpu"
    engine = TorchEngine.load(weights, network="tiny", device="auto")
    assert engine.run({"x": X})["y"].shape == (2, 4, 8, 8)


def test_a_device_that_is_not_there_is_refused(torch: Any) -> None:
    with pytest.raises(FailedPrecondition, match="abacus"):
        choose_device("abacus")


def test_a_file_that_is_not_there_is_named(torch: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone"):
        TorchEngine.load(tmp_path / "gone.safetensors")


def test_without_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FailedPrecondition, match=r"pip install smol\[torch\]"):
        TorchEngine.load(b"", network="tiny")


@pytest.mark.parametrize(
    ("file", "side"),
    [("detect/nanodet_plus_m_416.onnx", 416), ("classify/mobilenet_v2_1.0_224_fp32.onnx", 224)],
)
def test_both_engines_agree_on_real_networks(torch: Any, shared: Path, file: str, side: int) -> None:
    pytest.importorskip("onnx2torch")
    one, other = (kind.load(shared / "models" / file) for kind in (OnnxEngine, TorchEngine))
    x = np.random.default_rng(8).standard_normal((1, 3, side, side)).astype(np.float32)
    expected, found = (next(iter(e.run({e.inputs[0].name: x}).values())) for e in (one, other))
    assert np.abs(expected - found).max() < TOLERANCE
