"""Linear algebra as its callers meet it: answers, residuals, refusals, and where it ran."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, SmolError
from smol.sdk import Context
from smol.sdk.context import Environment, Link
from smol.types import Attachment
from smol.units.linalg import unit as module
from smol.units.linalg.answers import Computed
from smol.units.linalg.kernels import KERNELS, TORCH_GAINS_FROM
from smol.units.linalg.unit import Linalg

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("cases.json").read_text())


class TorchLink(Link):
    """Stands for the host; remembers what PyTorch was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def call(
        self, operation: str, arguments: Any, deadline_seconds: float, trace: str, key: str = ""
    ) -> dict[str, Any]:
        self.asked.append(f"{operation} {arguments['computation']}")
        return {"names": [], "arrays": [npy([1.0])], "condition": None, "engine": "torch", "device": "cuda",
                "compute_ms": 1.0}  # fmt: skip


def npy(value: Any, dtype: Any = None) -> Attachment:
    stream = io.BytesIO()
    np.save(stream, np.asarray(value, dtype=dtype))
    return Attachment(stream.getvalue())


def loaded(file: Attachment) -> Any:
    return np.load(io.BytesIO(file.data))


def ask(operation: str, **arguments: Any) -> Any:
    return asyncio.run(getattr(Linalg(), operation)(**arguments))


def compute(computation: str, *arrays: Attachment, link: Link | None = None, **more: Any) -> Computed:
    set_up = more.pop("settings", {})
    environment = Environment(unit="linalg", log=logging.getLogger("linalg"), data_dir=None, cache_dir=None,
                              settings=set_up, link=link or TorchLink())  # fmt: skip
    return asyncio.run(Linalg().compute(computation, list(arrays), Context(environment), **more))  # type: ignore[arg-type]


def picked(result: Any, path: list[str | int]) -> float:
    for step in path:
        result = getattr(result, step) if isinstance(step, str) else result[step]
    return float(result)


@pytest.mark.parametrize("case", CASES, ids=[f"{case['operation']} {case['pick']}" for case in CASES])
def test_an_answer_agrees_with_another_program(case: dict[str, Any]) -> None:
    expected = float(case["answer"])
    found = picked(ask(case["operation"], **case["arguments"]), case["pick"])
    if case["operation"] == "qr":
        found = abs(found)  # Signs are the decomposition's to choose.
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


_entries = st.integers(-100, 100)


@st.composite
def matrices(draw: st.DrawFn, square: bool = False) -> list[list[int]]:
    rows = draw(st.integers(1, 6))
    columns = rows if square else draw(st.integers(1, 6))
    return draw(st.lists(st.lists(_entries, min_size=columns, max_size=columns), min_size=rows, max_size=rows))


@given(matrices(square=True), st.data())
def test_a_solution_leaves_no_residual(matrix: list[list[int]], data: st.DataObject) -> None:
    right = data.draw(st.lists(_entries, min_size=len(matrix), max_size=len(matrix)))
    try:
        result = ask("solve", matrix=matrix, right=right)
    except InvalidArgument:  # Singular.
        assert np.linalg.cond(np.array(matrix, dtype=float), 1) > 1e15
        return
    error = np.abs(np.array(matrix) @ np.array(result.x) - right).max()
    assert error <= 1e-12 * result.condition * max(1.0, np.abs(right).max())


@given(matrices())
def test_decompositions_multiply_back(matrix: list[list[int]]) -> None:
    qr, svd = ask("qr", matrix=matrix), ask("svd", matrix=matrix)
    q = np.array(qr.q)
    assert np.allclose(q @ np.array(qr.r), matrix)
    assert np.allclose(q.T @ q, np.eye(q.shape[1]))
    assert np.allclose(np.array(svd.u) @ np.diag(svd.s) @ np.array(svd.vt), matrix)
    assert svd.rank == np.linalg.matrix_rank(np.array(matrix))


@given(matrices(square=True))
def test_eigenvectors_are_stretched_by_their_values(matrix: list[list[int]]) -> None:
    result = ask("eig", matrix=matrix)
    values, vectors = np.array(result.values, dtype=complex), np.array(result.vectors, dtype=complex)
    if result.values_imaginary is not None:
        values += 1j * np.array(result.values_imaginary)
        vectors += 1j * np.array(result.vectors_imaginary)
    assert np.allclose(np.array(matrix) @ vectors, vectors * values, atol=1e-8)


@given(matrices())
def test_least_squares_leave_a_residual_at_right_angles(matrix: list[list[int]]) -> None:
    right = [float(sum(row) + at) for at, row in enumerate(matrix)]
    result = ask("lstsq", matrix=matrix, right=right)
    residual = np.array(matrix) @ np.array(result.x) - right
    assert np.linalg.norm(residual) == pytest.approx(result.residual, abs=1e-9)
    assert np.allclose(np.array(matrix).T @ residual, 0, atol=1e-6)


@given(matrices(square=True))
def test_cholesky_multiplies_back(matrix: list[list[int]]) -> None:
    positive = np.array(matrix) @ np.array(matrix).T + np.eye(len(matrix))
    factor = np.array(ask("cholesky", matrix=positive.tolist()))
    assert np.allclose(factor @ factor.T, positive)
    assert np.allclose(factor, np.tril(factor))


@pytest.mark.parametrize(
    ("operation", "arguments", "error", "said"),
    [
        ("solve", {"matrix": [[1, 2], [2, 4]], "right": [1, 2]}, InvalidArgument, "singular.*lstsq"),
        ("solve", {"matrix": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "right": [1, 2, 3]}, InvalidArgument, "condition"),
        ("inverse", {"matrix": [[0.0]]}, InvalidArgument, "singular"),
        ("solve", {"matrix": [[1, 2], [3, 4]], "right": [1, 2, 3]}, InvalidArgument, "2 by 2 and 3 don't fit"),
        ("matmul", {"left": [[1, 2]], "right": [[1, 2]]}, InvalidArgument, "don't fit"),
        ("det", {"matrix": [[1, 2, 3], [4, 5, 6]]}, InvalidArgument, "square"),
        ("det", {"matrix": [[1, 2], [3]]}, InvalidArgument, "same length"),
        ("det", {"matrix": []}, InvalidArgument, "one at least"),
        ("det", {"matrix": [[]]}, InvalidArgument, "takes a matrix"),
        ("det", {"matrix": [[1e308, 1], [1, 1e308]]}, InvalidArgument, "beyond the range"),
        ("cholesky", {"matrix": [[1, 2], [3, 4]]}, InvalidArgument, "symmetric"),
        ("cholesky", {"matrix": [[1, 2], [2, 1]]}, InvalidArgument, "positive definite"),
        ("det", {"matrix": [[0.0] * 101] * 101}, ResourceExhausted, "10000 elements.*npy"),
    ],
)
def test_an_error_says_what_was_wrong(
    operation: str, arguments: dict[str, Any], error: type[SmolError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask(operation, **arguments)


@pytest.mark.parametrize(
    ("computation", "arrays", "error", "said"),
    [
        ("det", [Attachment(b"hello")], InvalidArgument, "not a .npy file"),
        ("det", [Attachment(npy(np.eye(3)).data[:-8])], InvalidArgument, "does not match"),
        ("det", [Attachment(bytes(npy(np.eye(3)).data).replace(b"(3, 3)", b"(3e9,)"))], InvalidArgument, "npy"),
        ("det", [npy([["a"]])], InvalidArgument, "real or complex"),
        ("det", [npy([[None]])], InvalidArgument, "real or complex"),
        ("svd", [npy([[float("nan")]])], InvalidArgument, "NaN"),
        ("svd", [npy(np.zeros((800, 800)))], ResourceExhausted, "768 by 768"),
        ("matmul", [npy(np.zeros((1, 5000))), npy(np.zeros((5000, 1000)))], ResourceExhausted, "elements"),
        ("det", [npy(np.eye(2)), npy(np.eye(2))], InvalidArgument, "takes 1 array, not 2"),
    ],
)
def test_a_bad_file_is_refused(
    computation: str, arrays: list[Attachment], error: type[SmolError], said: str
) -> None:
    with pytest.raises(error, match=said):
        compute(computation, *arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8", "complex128", "int16", "bool"])
def test_every_kind_of_number_is_taken(dtype: str) -> None:
    result = compute("matmul", npy(np.eye(3), dtype), npy(np.asfortranarray(np.eye(3)), dtype))
    assert (result.engine, result.device, result.names) == ("numpy", "cpu", ["product"])
    assert np.array_equal(loaded(result.arrays[0]), np.eye(3))


def test_small_work_stays_on_numpy() -> None:
    link = TorchLink()
    assert compute("qr", npy(np.eye(8)), link=link).engine == "numpy"
    assert link.asked == []


@pytest.fixture
def without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ACCELERATORS", ())


def test_large_work_goes_to_pytorch_where_that_gains(
    without_accelerator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    side, link = TORCH_GAINS_FROM["lstsq"], TorchLink()
    large = npy(np.eye(side))
    assert compute("lstsq", large, npy(np.ones(side)), link=link).device == "cuda"
    assert compute("det", large, link=link).engine == "numpy"
    assert compute("lstsq", large, npy(np.ones(side)), link=link, settings={"torch": False}).engine == "numpy"
    assert link.asked == ["linalg_torch.compute lstsq"]


def test_a_setting_of_the_wrong_type_is_named() -> None:
    with pytest.raises(InvalidArgument, match="torch of"):
        compute("det", npy(np.eye(2)), settings={"torch": "no"})


def test_pytorch_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install smol\[torch\]"):
        compute("det", npy(np.eye(2)), engine="torch")
    assert compute("det", npy(np.eye(2))).engine == "numpy"


def test_the_next_computation_waits_for_one_whose_caller_went_away() -> None:
    async def abandon() -> float:
        unit = Linalg()
        first = asyncio.create_task(unit.det([[2.0]]))
        await asyncio.sleep(0)
        first.cancel()
        return await unit.det([[3.0]])

    assert asyncio.run(abandon()) == pytest.approx(3)


def test_every_computation_is_an_operation() -> None:
    assert set(KERNELS) <= set(dir(Linalg))


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        compute("det", Attachment(b"\x93NUMPY" + data))
