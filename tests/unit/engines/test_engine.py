from __future__ import annotations

import numpy as np
import pytest

from smol.engines import Array, TensorSpec
from smol.engines.engine import check_inputs, layout_of
from smol.errors import InvalidArgument

SPECS = (TensorSpec("images", (None, 3, 8, 8), "float32", "NCHW"),)


def zeros(*shape: int, dtype: str = "float32") -> Array:
    return np.zeros(shape, dtype=dtype)


def test_inputs_that_fit_pass_with_any_batch() -> None:
    check_inputs(SPECS, {"images": zeros(5, 3, 8, 8)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'images' is missing"),
        ({"image": zeros(1, 3, 8, 8)}, "did you mean 'images'"),
        ({"images": zeros(1, 3, 8, 8, dtype="float64")}, "is float64; the model needs float32"),
        ({"images": zeros(1, 3, 8, 9)}, r"shape \[1, 3, 8, 9\]; the model needs \[None, 3, 8, 8\]"),
        ({"images": zeros(3, 8, 8)}, r"shape \[3, 8, 8\]"),
    ],
)
def test_an_input_that_does_not_fit_is_named(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_inputs(SPECS, inputs)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 8, 8), "NCHW"), ((None, 8, 8, 3), "NHWC"), ((1, 1000), "NC"), ((1, 3, 8, 3), ""),
        ((1, 85, 22, 22), ""), ((1, 3598, 112), ""), ((), ""),
    ],
)  # fmt: skip
def test_a_layout_is_told_only_where_the_shape_betrays_it(shape: tuple[int | None, ...], layout: str) -> None:
    assert layout_of(shape) == layout
