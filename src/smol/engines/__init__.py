"""What executes a model. Importing this loads no engine: take `smol.engines.onnx` or `smol.engines.torch`."""

from smol.engines.engine import Array, Engine, TensorSpec

__all__ = ["Array", "Engine", "TensorSpec"]
