from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from smol.engines import Array, TensorSpec
from smol.engines.onnx import OnnxEngine, default_threads
from smol.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound

X = np.random.default_rng(6).standard_normal((2, 3, 8, 8)).astype(np.float32)


def test_a_model_says_what_goes_in_and_out(model_file: Path) -> None:
    engine = OnnxEngine.load(model_file)
    assert engine.inputs == (TensorSpec("x", (None, 3, 8, 8), "float32", "NCHW"),)
    assert engine.outputs == (TensorSpec("y", (None, 4, 8, 8), "float32", "NCHW"),)


def test_a_file_and_its_bytes_give_the_same(model_file: Path, model_bytes: bytes) -> None:
    from_file = OnnxEngine.load(model_file, threads=1).run({"x": X})["y"]
    from_bytes = OnnxEngine.load(model_bytes, threads=2, spin=True).run({"x": X})["y"]
    assert from_file.shape == (2, 4, 8, 8)
    assert from_file.max() > 0
    assert np.allclose(from_file, from_bytes, atol=1e-6)


def test_a_model_may_run_in_several_threads_at_once(model_bytes: bytes) -> None:
    engine = OnnxEngine.load(model_bytes)
    expected = engine.run({"x": X})["y"]
    results: list[Array] = []
    threads = [threading.Thread(target=lambda: results.append(engine.run({"x": X})["y"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(result, expected) for result in results)


def test_a_wrong_input_is_refused_and_the_model_stays_usable(model_bytes: bytes) -> None:
    engine = OnnxEngine.load(model_bytes)
    with pytest.raises(InvalidArgument, match="float64"):
        engine.run({"x": X.astype(np.float64)})
    with pytest.raises(InvalidArgument, match="shape"):
        engine.run({"x": X[:, :2]})
    assert engine.run({"x": X})["y"].shape == (2, 4, 8, 8)


def test_a_closed_model_can_not_run_and_can_be_closed_again(model_bytes: bytes) -> None:
    engine = OnnxEngine.load(model_bytes)
    engine.close()
    engine.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        engine.run({"x": X})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.onnx"):
        OnnxEngine.load(tmp_path / "gone.onnx")


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_truncated_model_is_refused(model_bytes: bytes, size: int, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(model_bytes[:size])
    with pytest.raises(DataLoss, match=r"cut\.onnx"):
        OnnxEngine.load(tmp_path / "cut.onnx")
    with pytest.raises(DataLoss, match="given bytes"):
        OnnxEngine.load(model_bytes[:size])


def test_no_threads_are_refused(model_bytes: bytes) -> None:
    with pytest.raises(InvalidArgument, match="at least 1 thread"):
        OnnxEngine.load(model_bytes, threads=0)


def test_one_or_two_threads_are_the_default() -> None:
    assert default_threads() in (1, 2)


def test_importing_the_engines_loads_neither_runtime() -> None:
    heavy = "{'onnxruntime', 'torch'}"
    code = f"import sys, smol.engines.onnx, smol.engines.torch; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_loaded_model_reports_to_nobody(model_file: Path, tmp_path: Path) -> None:
    """The runtime's telemetry would keep a database of what it is going to send below the home directory."""
    code = f"from smol.engines.onnx import OnnxEngine; OnnxEngine.load({str(model_file)!r})"
    home = tmp_path / "home"
    home.mkdir()
    silent = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI"}
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(home.rglob("*")) == []
