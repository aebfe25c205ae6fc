"""What every engine offers, whatever executes the model. Covers no loading: each engine has its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from smol.errors import InvalidArgument, nearest

__all__ = ["Array", "Engine", "TensorSpec", "check_inputs", "layout_of"]

Array: TypeAlias = npt.NDArray[Any]


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a network.

    shape: sizes, None where any size will do; dtype: numpy's name, for example `float32`;
    layout: a letter for each axis, as `NCHW`, or empty when it can't be told.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: str = ""


class Engine(Protocol):
    """A loaded model. Runs may overlap between threads; `close` may not overlap a run."""

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InvalidArgument when an input is missing or does not fit."""
        ...

    def close(self) -> None:
        """Release the model; running it later raises FailedPrecondition. Closing twice is fine."""
        ...


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> None:
    """Raise InvalidArgument naming the first input that does not fit its specification."""
    known = [spec.name for spec in specs]
    for name in inputs:
        if name not in known:
            raise InvalidArgument(f"the model has no input {name!r}{nearest(name, known)}; it has {known}")
    for spec in specs:
        if spec.name not in inputs:
            raise InvalidArgument(f"input {spec.name!r} is missing; the model needs {known}")
        value = inputs[spec.name]
        if value.dtype != np.dtype(spec.dtype):
            raise InvalidArgument(f"input {spec.name!r} is {value.dtype}; the model needs {spec.dtype}")
        fits = len(value.shape) == len(spec.shape) and all(
            want is None or want == have for want, have in zip(spec.shape, value.shape, strict=True)
        )
        if not fits:
            raise InvalidArgument(
                f"input {spec.name!r} has shape {list(value.shape)}; the model needs {list(spec.shape)}"
            )


def layout_of(shape: Sequence[int | None]) -> str:
    """The layout that a shape betrays: pictures have 1, 3 or 4 channels; empty when it is ambiguous."""
    channels = (1, 3, 4)
    if len(shape) == 4 and (shape[1] in channels) != (shape[3] in channels):
        return "NCHW" if shape[1] in channels else "NHWC"
    return "NC" if len(shape) == 2 else ""
