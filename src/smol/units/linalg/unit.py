"""The operations of linear algebra: small matrices as JSON, large ones as .npy files, and where they run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from smol.errors import FailedPrecondition, InvalidArgument
from smol.sdk import Context, Unit, operation
from smol.types import Attachment
from smol.units.linalg import answers
from smol.units.linalg.arrays import Matrix, Rows, from_json, from_npy, header_of, to_json, to_npy
from smol.units.linalg.engine import Results, run
from smol.units.linalg.kernels import ACCELERATOR_GAINS_FROM, TORCH_GAINS_FROM, Computation, check

__all__ = ["Linalg"]

T = TypeVar("T")
_ACCELERATORS = ("/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128", "/dev/accel/accel0")
"""Seen before PyTorch is loaded, which takes seconds; PyTorch then says whether it can use it."""


class Linalg(Unit):
    """Numeric linear algebra: systems, eigenvalues, decompositions, products."""

    def __init__(self) -> None:
        self._thread = asyncio.Semaphore(1)

    @operation(read_only=True)
    async def solve(self, matrix: Matrix, right: Rows) -> answers.Solved:
        """Solve the linear system A x = b.

        matrix: A, square, by rows: [[2, 1], [1, 3]].
        right: b, a vector [3, 5], or a matrix with one system in each column.
        """
        results = await self._run("solve", matrix=matrix, right=right)
        return answers.Solved(x=to_json(results["x"]), condition=results.get("condition"))

    @operation(read_only=True)
    async def lstsq(self, matrix: Matrix, right: Rows) -> answers.Fitted:
        """Find the x for which A x is nearest to b: a fit by least squares.

        matrix: A by rows; more rows than columns, as a rule.
        right: b, a vector, or a matrix with one fit in each column.
        """
        results = await self._run("lstsq", matrix=matrix, right=right)
        return answers.Fitted(x=to_json(results["x"]), residual=float(results["residual"]))

    @operation(read_only=True)
    async def det(self, matrix: Matrix) -> float:
        """Compute the determinant of a square matrix.

        matrix: by rows.
        """
        return float((await self._run("det", matrix=matrix))["det"])

    @operation(read_only=True)
    async def inverse(self, matrix: Matrix) -> answers.Inverse:
        """Invert a square matrix.

        matrix: by rows.
        """
        results = await self._run("inverse", matrix=matrix)
        return answers.Inverse(inverse=to_json(results["inverse"]), condition=results.get("condition"))

    @operation(read_only=True)
    async def eig(self, matrix: Matrix) -> answers.Eigen:
        """Find the eigenvalues and eigenvectors of a square matrix; of a symmetric one in ascending order.

        matrix: by rows.
        """
        results = await self._run("eig", matrix=matrix)
        values, vectors = results["values"], results["vectors"]
        has_imaginary = bool((values.imag != 0).any())
        return answers.Eigen(
            values=to_json(values),
            vectors=to_json(vectors),
            values_imaginary=values.imag.tolist() if has_imaginary else None,
            vectors_imaginary=vectors.imag.tolist() if has_imaginary else None,
        )

    @operation(read_only=True)
    async def svd(self, matrix: Matrix) -> answers.SingularValues:
        """Decompose a matrix into U diag(s) V^T, with its rank and condition number.

        matrix: by rows.
        """
        results = await self._run("svd", matrix=matrix)
        u, s, vt = results["u"], results["s"], results["vt"]
        small = s[0] * max(len(matrix), len(matrix[0])) * 2.0**-52
        return answers.SingularValues(
            u=to_json(u),
            s=to_json(s),
            vt=to_json(vt),
            rank=int((s > small).sum()),
            condition=results.get("condition"),
        )

    @operation(read_only=True)
    async def qr(self, matrix: Matrix) -> answers.OrthogonalTriangular:
        """Decompose a matrix into Q R, with orthonormal columns in Q and R upper triangular.

        matrix: by rows.
        """
        results = await self._run("qr", matrix=matrix)
        return answers.OrthogonalTriangular(q=to_json(results["q"]), r=to_json(results["r"]))

    @operation(read_only=True)
    async def cholesky(self, matrix: Matrix) -> Matrix:
        """Find the lower triangular L with L L^T = A, for A symmetric and positive definite.

        matrix: A by rows.
        """
        return to_json((await self._run("cholesky", matrix=matrix))["l"])  # type: ignore[no-any-return]

    @operation(read_only=True)
    async def matmul(self, left: Matrix, right: Rows) -> Rows:
        """Multiply a matrix with a matrix or a vector.

        left: by rows.
        right: a matrix by rows, or a vector.
        """
        return to_json((await self._run("matmul", left=left, right=right))["product"])  # type: ignore[no-any-return]

    @operation(read_only=True)
    async def compute(
        self,
        computation: Computation,
        arrays: Annotated[list[Attachment], msgspec.Meta(min_length=1, max_length=2)],
        context: Context,
        engine: Literal["auto", "numpy", "torch"] = "auto",
    ) -> answers.Computed:
        """Do any of this with large arrays, as .npy files, on PyTorch where that gains.

        arrays: one or two .npy files of real or complex numbers.
        engine: where it runs. auto takes PyTorch if it is installed and the arrays are large enough to gain;
        the setting torch = false of [units.linalg] keeps auto on numpy.
        """
        shapes = [header_of(file, f"array {at}")[0] for at, file in enumerate(arrays, 1)]
        check(computation, shapes)
        if engine == "torch" or (engine == "auto" and _gains(computation, shapes[0], context)):
            if find_spec("torch") is None:
                raise FailedPrecondition("PyTorch is not installed: pip install smol[torch], or take engine numpy")
            answer = await context.call("linalg_torch.compute", computation=computation, arrays=arrays)
            return msgspec.convert(answer, answers.Computed, dec_hook=_as_it_is)
        started = time.perf_counter()
        results = await self._in_thread(partial(_on_files, computation, arrays))
        condition = results.pop("condition", None)
        return answers.Computed(
            names=list(results),
            arrays=[to_npy(array, name) for name, array in results.items()],
            condition=condition,
            engine="numpy",
            device="cpu",
            compute_ms=(time.perf_counter() - started) * 1000,
        )

    async def _run(self, name: Computation, **given: Sequence[Any]) -> Results:
        arrays = [from_json(value, what) for what, value in given.items()]
        return await self._in_thread(partial(run, name, arrays))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """A thread can't be stopped: the next computation waits for it, even if its caller went away."""
        await self._thread.acquire()
        running = asyncio.get_running_loop().run_in_executor(None, work)
        running.add_done_callback(lambda _: self._thread.release())
        return await asyncio.shield(running)


def _on_files(name: str, files: Sequence[Attachment]) -> Results:
    return run(name, [from_npy(file, f"array {at}") for at, file in enumerate(files, 1)])


def _gains(name: str, shape: Sequence[int], context: Context) -> bool:
    wanted = context.settings.get("torch", True)
    if not isinstance(wanted, bool):
        raise InvalidArgument(f"the setting torch of [units.linalg] is true or false, not {wanted!r}")
    if not wanted or find_spec("torch") is None:
        return False
    accelerated = any(os.path.exists(path) for path in _ACCELERATORS)
    least = ACCELERATOR_GAINS_FROM if accelerated else TORCH_GAINS_FROM.get(name)
    return least is not None and min(shape) >= least


def _as_it_is(kind: type, value: Any) -> Any:
    return value
