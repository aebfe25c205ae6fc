"""What executes a model. Importing this loads no engine: take `smol.engines.onnx` or `smol.engines.torch`."""

from smol.engines.engine import Array, Engine, TensorSpec
from smol.engines.heap import share_one_heap

__all__ = ["Array", "Engine", "TensorSpec", "share_one_heap"]
