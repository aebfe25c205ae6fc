"""Arrays from and to JSON and `.npy` files. Nothing is unpickled, and nothing is allocated that was not sent."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy

from smol.errors import InvalidArgument, ResourceExhausted
from smol.types import Attachment

__all__ = [
    "MAX_JSON_ELEMENTS",
    "Array",
    "Matrix",
    "Rows",
    "from_json",
    "from_npy",
    "header_of",
    "to_json",
    "to_npy",
]

Array: TypeAlias = Any
"""numpy.ndarray of float or complex numbers."""
Matrix: TypeAlias = list[list[float]]
Rows: TypeAlias = list[float | list[float]]
"""A vector, or a matrix by rows."""

MAX_JSON_ELEMENTS = 10_000
"""What fits the header of a frame in all its results; more comes as .npy."""
_KINDS = ("float32", "float64", "complex64", "complex128")


def from_json(value: Sequence[Any], what: str) -> Array:
    """A vector or a matrix. Raises InvalidArgument naming `what`."""
    lengths = {len(row) if isinstance(row, list) else -1 for row in value}
    if len(lengths) != 1:
        raise InvalidArgument(f"{what}: the rows of a matrix must have the same length, and it needs one at least")
    if len(value) * abs(lengths.pop()) > MAX_JSON_ELEMENTS:
        raise ResourceExhausted(
            f"{what} has more than {MAX_JSON_ELEMENTS} elements, the limit in JSON; "
            "send .npy files to linalg.compute"
        )
    return _finite(np.array(value, dtype=np.float64), what)


def header_of(file: Attachment, what: str) -> tuple[tuple[int, ...], Any, bool, int]:
    """Shape, dtype, whether columns come first, and where the data begin, of a .npy file that is complete."""
    stream = io.BytesIO(memoryview(file.data)[:65_536])
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read(stream)
    except ValueError as error:
        raise InvalidArgument(f"{what} is not a .npy file: {str(error)[:200]}") from None
    if dtype.kind not in "fciub" or dtype.itemsize > 16 or dtype.name in ("longdouble", "float128"):
        raise InvalidArgument(f"{what} holds {dtype}; arrays of real or complex numbers are taken")
    if math.prod(shape) * dtype.itemsize != len(file) - stream.tell():
        raise InvalidArgument(f"{what}: shape {shape} of {dtype} does not match its {len(file)} bytes")
    return shape, dtype, columns_first, stream.tell()


def from_npy(file: Attachment, what: str) -> Array:
    """An array as float or complex numbers; not copied if it holds those already."""
    shape, dtype, columns_first, start = header_of(file, what)
    flat = np.frombuffer(file.data, dtype=dtype, offset=start)
    array = flat.reshape(shape, order="F" if columns_first else "C")
    return _finite(array if dtype.name in _KINDS and dtype.isnative else array.astype(np.float64), what)


def to_npy(array: Array, name: str) -> Attachment:
    """As a .npy file called `name`."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=False)
    return Attachment(stream.getbuffer(), "application/x-npy", f"{name}.npy")


def to_json(array: Array) -> Any:
    """Nested lists of the real parts."""
    return np.real(array).tolist()


def _finite(array: Array, what: str) -> Array:
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{what} holds NaN or infinity")
    return array
