"""The computations, for numpy and PyTorch alike: both spell linear algebra the same way.

`xp` is the module numpy or torch, whose arrays come in and go out. Arguments are checked by `check`, on
shapes alone, so that what is too large or does not fit is refused before it is copied anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from smol.errors import InvalidArgument, ResourceExhausted

__all__ = [
    "ACCELERATOR_GAINS_FROM",
    "KERNELS",
    "MAX_ELEMENTS",
    "TORCH_GAINS_FROM",
    "Computation",
    "Kernel",
    "check",
]

Computation: TypeAlias = Literal["cholesky", "det", "eig", "inverse", "lstsq", "matmul", "qr", "solve", "svd"]
Shape: TypeAlias = tuple[int, ...]

MAX_ELEMENTS = 4 * 1024 * 1024
"""Of all arguments together: 32 MiB of float64."""

TORCH_GAINS_FROM: Mapping[str, int] = {"solve": 1024, "lstsq": 512, "qr": 1024, "cholesky": 1024}
"""Shortest side from which PyTorch on two cores was at least 1.5 times as fast, when last measured by
`python -m benchmarks.run linalg`; at the others it was not, or not always."""

ACCELERATOR_GAINS_FROM = 512
"""The same where an accelerator is present, for everything. An estimate: it has not been measured."""


class Kernel(NamedTuple):
    """work: called with xp and the arrays; returns results by name.

    arrays: how many it takes. square: whether the first must be.
    max_side: of the largest square matrix, which bounds the time of a rectangular one too: to some seconds on
    two idle cores.
    """

    work: Callable[..., dict[str, Any]]
    arrays: int
    square: bool
    max_side: int


def check(name: str, shapes: Sequence[Shape]) -> None:
    """Raises InvalidArgument for shapes that don't fit, ResourceExhausted for those that are too large."""
    kernel = KERNELS[name]
    if len(shapes) != kernel.arrays:
        raise InvalidArgument(f"{name} takes {kernel.arrays} array{'s' * (kernel.arrays > 1)}, not {len(shapes)}")
    first = shapes[0]
    if len(first) != 2 or not all(first):
        raise InvalidArgument(
            f"{name} takes a matrix, such as [[1, 2], [3, 4]], not an array of shape {_told(first)}"
        )
    if kernel.square and first[0] != first[1]:
        raise InvalidArgument(f"{name} takes a square matrix, not {first[0]} by {first[1]}")
    if kernel.arrays == 2:
        second = shapes[1]
        inner = first[1] if name == "matmul" else first[0]
        if len(second) not in (1, 2) or not all(second) or second[0] != inner:
            raise InvalidArgument(f"{name}: shapes {_told(first)} and {_told(second)} don't fit")
    elements = sum(math.prod(shape) for shape in shapes)
    columns = shapes[1][1] if kernel.arrays == 2 and len(shapes[1]) == 2 else 0
    work, most = math.prod(first) * (min(first) + columns), kernel.max_side**3
    if name == "matmul":
        work = math.prod(first) * max(columns, 1)
    elif kernel.arrays == 2:
        most *= 2
    if elements > MAX_ELEMENTS or work > most:
        raise ResourceExhausted(
            f"{name} takes up to {MAX_ELEMENTS} elements in all and the work of a matrix of {kernel.max_side} by "
            f"{kernel.max_side}; {' and '.join(map(_told, shapes))} is more",
            max_side=kernel.max_side,
            max_elements=MAX_ELEMENTS,
        )


def _told(shape: Shape) -> str:
    return " by ".join(map(str, shape)) or "()"


def _solve(xp: Any, a: Any, b: Any) -> dict[str, Any]:
    columns = b if len(b.shape) == 2 else b[:, None]
    x = xp.linalg.solve(a, columns)
    return {"x": x if len(b.shape) == 2 else x[:, 0]}


def _lstsq(xp: Any, a: Any, b: Any) -> dict[str, Any]:
    columns = b if len(b.shape) == 2 else b[:, None]
    x = xp.linalg.lstsq(a, columns, rcond=None)[0]
    residual = xp.linalg.norm(a @ x - columns)
    return {"x": x if len(b.shape) == 2 else x[:, 0], "residual": residual}


def _eig(xp: Any, a: Any) -> dict[str, Any]:
    hermitian = bool((a == a.T.conj()).all())
    values, vectors = xp.linalg.eigh(a) if hermitian else xp.linalg.eig(a)
    return {"values": values, "vectors": vectors}


def _svd(xp: Any, a: Any) -> dict[str, Any]:
    u, s, vt = xp.linalg.svd(a, full_matrices=False)
    return {"u": u, "s": s, "vt": vt}


def _qr(xp: Any, a: Any) -> dict[str, Any]:
    q, r = xp.linalg.qr(a)
    return {"q": q, "r": r}


def _cholesky(xp: Any, a: Any) -> dict[str, Any]:
    if not bool((a == a.T.conj()).all()):
        raise InvalidArgument("cholesky takes a symmetric (Hermitian) matrix; this one differs from its transpose")
    return {"l": xp.linalg.cholesky(a)}


KERNELS: Mapping[str, Kernel] = {
    "cholesky": Kernel(_cholesky, 1, True, 2048),
    "det": Kernel(lambda xp, a: {"det": xp.linalg.det(a)}, 1, True, 2048),
    "eig": Kernel(_eig, 1, True, 512),
    "inverse": Kernel(lambda xp, a: {"inverse": xp.linalg.inv(a)}, 1, True, 2048),
    "lstsq": Kernel(_lstsq, 2, False, 768),
    "matmul": Kernel(lambda xp, a, b: {"product": a @ b}, 2, False, 2048),
    "qr": Kernel(_qr, 1, False, 1448),
    "solve": Kernel(_solve, 2, True, 2048),
    "svd": Kernel(_svd, 1, False, 768),
}
