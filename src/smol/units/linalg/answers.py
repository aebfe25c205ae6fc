"""What the operations answer. Matrices are lists of rows."""

from __future__ import annotations

import msgspec

from smol.types import Attachment
from smol.units.linalg.arrays import Matrix, Rows

__all__ = ["Computed", "Eigen", "Fitted", "Inverse", "OrthogonalTriangular", "SingularValues", "Solved"]


class Solved(msgspec.Struct, frozen=True, kw_only=True):
    """condition: of the matrix in the 1-norm; as many digits of x as it has are lost. null for large ones."""

    x: Rows
    condition: float | None


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """residual: the Euclidean length of A x - b."""

    x: Rows
    residual: float


class Inverse(msgspec.Struct, frozen=True, kw_only=True):
    inverse: Matrix
    condition: float | None


class Eigen(msgspec.Struct, frozen=True, kw_only=True):
    """vectors: one in each column, of length 1. The imaginary parts are null when all values are real."""

    values: list[float]
    vectors: Matrix
    values_imaginary: list[float] | None
    vectors_imaginary: Matrix | None


class SingularValues(msgspec.Struct, frozen=True, kw_only=True):
    """s: descending. rank: how many of them are above rounding. condition: null when it is infinite."""

    u: Matrix
    s: list[float]
    vt: Matrix
    rank: int
    condition: float | None


class OrthogonalTriangular(msgspec.Struct, frozen=True, kw_only=True):
    q: Matrix
    r: Matrix


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """names: of the arrays, in order. engine: numpy or torch. device: cpu, or what PyTorch calls it."""

    names: list[str]
    arrays: list[Attachment]
    condition: float | None
    engine: str
    device: str
    compute_ms: float
