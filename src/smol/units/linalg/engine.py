"""Running a computation on numpy: conditions looked at, and errors told in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smol.errors import InvalidArgument
from smol.units.linalg.kernels import KERNELS, check

__all__ = ["Results", "condition_of", "run"]

Results = dict[str, Any]
_MAX_CONDITIONED_SIDE = 512
"""The condition number costs an inverse, so above this it is left out."""


def run(name: str, arrays: Sequence[Any]) -> Results:
    """The results by name. Raises InvalidArgument for a matrix it can't be done with.

    Besides the kernel's results: `condition`, where it was computed.
    """
    check(name, [array.shape for array in arrays])
    condition = condition_of(arrays[0]) if name in ("solve", "inverse") else None
    try:
        with np.errstate(all="ignore"):
            results = KERNELS[name].work(np, *arrays)
    except np.linalg.LinAlgError as error:
        raise refusal(name, str(error)) from None
    if name == "svd":
        condition = _ratio(results["s"])
    if not all(np.isfinite(result).all() for result in results.values()):
        raise InvalidArgument(f"{name}: the result is beyond the range of its floating-point numbers")
    return results if condition is None else {**results, "condition": condition}


def refusal(name: str, detail: str) -> InvalidArgument:
    """Why a factorisation failed."""
    if name == "cholesky":
        return InvalidArgument("the matrix is not positive definite, so it has no Cholesky decomposition")
    if name in ("solve", "inverse"):
        other = "; lstsq finds a solution of least squares" if name == "solve" else ""
        return InvalidArgument(f"the matrix is singular{other}")
    return InvalidArgument(f"{name} failed: {detail}")


def condition_of(matrix: Any) -> float | None:
    """The condition number in the 1-norm; None for a matrix that is too large for it, or not square.

    Raises InvalidArgument for a matrix that is singular to the precision of its numbers.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) > _MAX_CONDITIONED_SIDE:
        return None
    with np.errstate(all="ignore"):
        condition = float(np.linalg.cond(matrix, 1))
    precision = float(np.finfo(matrix.dtype).eps)
    if not condition * precision < 1:
        raise InvalidArgument(
            f"the matrix is singular to working precision: its condition number is {condition:.2g}; "
            "lstsq finds a solution of least squares",
            condition=condition if np.isfinite(condition) else None,
        )
    return condition


def _ratio(values: Any) -> float | None:
    """Largest to smallest singular value; None when that is infinite."""
    smallest = float(values[-1])
    ratio = float(values[0]) / smallest if smallest else np.inf
    return ratio if np.isfinite(ratio) else None
