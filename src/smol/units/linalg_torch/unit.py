"""linalg's computations on PyTorch, on the device that it finds."""

from __future__ import annotations

import importlib
import time
from typing import Annotated, Any

import msgspec
import numpy as np

from smol.engines.torch import choose_device
from smol.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from smol.sdk import Context, Unit, operation
from smol.types import Attachment
from smol.units.linalg.answers import Computed
from smol.units.linalg.arrays import from_npy, header_of, to_npy
from smol.units.linalg.engine import condition_of, refusal
from smol.units.linalg.kernels import KERNELS, Computation, check

__all__ = ["LinalgTorch"]


class LinalgTorch(Unit):
    """What linalg hands to PyTorch. People call linalg.compute."""

    def __init__(self) -> None:
        self._torch: Any = None
        self._device = "cpu"

    async def provision(self, context: Context) -> None:
        """Load PyTorch and choose the device: the setting `device`, else the accelerator if there is one."""
        self._device = choose_device(context.settings.get("device", "auto"))
        self._torch = importlib.import_module("torch")

    @operation(read_only=True)
    def compute(
        self,
        computation: Computation,
        arrays: Annotated[list[Attachment], msgspec.Meta(min_length=1, max_length=2)],
    ) -> Computed:
        """Do a computation of linalg on PyTorch.

        arrays: one or two .npy files of real or complex numbers.
        """
        check(computation, [header_of(file, f"array {at}")[0] for at, file in enumerate(arrays, 1)])
        given = [from_npy(file, f"array {at}") for at, file in enumerate(arrays, 1)]
        started = time.perf_counter()
        condition = condition_of(given[0]) if computation in ("solve", "inverse") else None
        results = self._run(computation, given)
        return Computed(
            names=list(results),
            arrays=[to_npy(array, name) for name, array in results.items()],
            condition=condition,
            engine="torch",
            device=self._device,
            compute_ms=(time.perf_counter() - started) * 1000,
        )

    def _run(self, name: str, given: list[Any]) -> dict[str, Any]:
        torch = self._torch
        if torch is None:
            raise FailedPrecondition("linalg_torch is used before it was provisioned")
        kind = np.result_type(*given)
        try:
            tensors = [torch.from_numpy(array.astype(kind)).to(self._device) for array in given]
            results = {key: value.cpu().numpy() for key, value in KERNELS[name].work(torch, *tensors).items()}
        except torch.OutOfMemoryError:
            raise ResourceExhausted(f"{self._device} has not enough memory for this; take engine numpy") from None
        except torch.linalg.LinAlgError as error:
            raise refusal(name, str(error)[:300]) from None
        if not all(np.isfinite(array).all() for array in results.values()):
            raise InvalidArgument(f"{name}: the result is beyond the range of its floating-point numbers")
        return results
