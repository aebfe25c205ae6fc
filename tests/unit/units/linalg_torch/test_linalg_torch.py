"""The same computations on PyTorch: the same answers, and the same refusals."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

import numpy as np
import pytest

from smol.errors import InvalidArgument
from smol.sdk import Context
from smol.sdk.context import Environment
from smol.types import Attachment
from smol.units.linalg.engine import run
from smol.units.linalg.kernels import KERNELS
from smol.units.linalg_torch.unit import LinalgTorch

pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def on_torch() -> LinalgTorch:
    unit = LinalgTorch()
    environment = Environment(unit="linalg_torch", log=logging.getLogger("torch"), data_dir=None, cache_dir=None)
    asyncio.run(unit.provision(Context(environment)))
    return unit


def npy(value: Any) -> Attachment:
    stream = io.BytesIO()
    np.save(stream, np.asarray(value))
    return Attachment(stream.getvalue())


def loaded(file: Attachment) -> Any:
    return np.load(io.BytesIO(file.data))


def positive(dtype: str) -> Any:
    base = np.random.default_rng(3).standard_normal((20, 20)) + (1j if dtype.startswith("complex") else 0)
    return (base @ base.conj().T + 20 * np.eye(20)).astype(dtype)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_it_answers_what_numpy_answers(on_torch: LinalgTorch, name: str, dtype: str) -> None:
    arrays = [positive(dtype)] * KERNELS[name].arrays
    result = on_torch.compute(name, [npy(array) for array in arrays])  # type: ignore[arg-type]
    expected = run(name, arrays)
    expected.pop("condition", None)
    assert result.names == list(expected)
    assert result.engine == "torch"
    for file, reference in zip(result.arrays, expected.values(), strict=True):
        close = 1e-3 if dtype == "float32" else 1e-9
        assert np.allclose(np.abs(loaded(file)), np.abs(reference), rtol=close, atol=close * 10)


@pytest.mark.parametrize(
    ("name", "arrays", "said"),
    [
        ("solve", [np.ones((3, 3)), np.ones(3)], "singular"),
        ("cholesky", [-np.eye(3)], "positive definite"),
        ("inverse", [np.zeros((600, 600))], "singular"),
        ("det", [np.diag([1e308, 1e308])], "beyond the range"),
        ("det", [np.ones((2, 3))], "square"),
    ],
)
def test_it_refuses_what_numpy_refuses(on_torch: LinalgTorch, name: str, arrays: list[Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        on_torch.compute(name, [npy(array) for array in arrays])  # type: ignore[arg-type]
