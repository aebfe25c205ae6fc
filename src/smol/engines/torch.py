"""PyTorch: an extra, for weights that have no ONNX form and for checking the default engine.

Importing this module does not import torch; loading a model does. Takes a network that was
registered under a name, with its weights in safetensors, or an ONNX file, which is turned into torch
modules. Nothing is ever unpickled. Which accelerator there is, torch says; nothing here
knows any.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from smol.engines.engine import Array, TensorSpec, check_inputs, layout_of
from smol.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, nearest

if TYPE_CHECKING:
    import torch

__all__ = ["NetworkSpec", "TorchEngine", "choose_device", "register_network"]


class NetworkSpec(NamedTuple):
    """How to build a network, with any weights, and what goes in and comes out in order."""

    build: Callable[[], torch.nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


_networks: dict[str, NetworkSpec] = {}


def register_network(name: str, spec: NetworkSpec) -> None:
    """Make a network known under a name. Raises AlreadyExists for another one of that name."""
    if _networks.setdefault(name, spec) != spec:
        raise AlreadyExists(f"a network {name!r} is registered already; give this one another name")


def choose_device(wanted: str | None = None) -> str:
    """The device to run on: the wanted one, else the CPU; `auto` takes the accelerator if there is one."""
    torch = _import("torch")
    if wanted in (None, "cpu"):
        return "cpu"
    accelerator = getattr(torch, "accelerator", None)  # From torch 2.6 on.
    present = "cpu"
    if accelerator is not None and accelerator.is_available():
        present = str(accelerator.current_accelerator())
    if wanted == "auto" or str(wanted).partition(":")[0] == present:
        return present if wanted == "auto" else str(wanted)
    raise FailedPrecondition(f"device {wanted!r} is not there; this machine has {present!r}; use it, or 'auto'")


class TorchEngine:
    """A torch module in evaluation mode."""

    def __init__(
        self, module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], device: str
    ) -> None:
        self._torch = _import("torch")
        self._module: torch.nn.Module | None = module.eval().to(device)
        self._device = device
        self.inputs = inputs
        self.outputs = outputs

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | bytes,
        *,
        network: str | None = None,
        threads: int | None = None,
        device: str | None = None,
    ) -> TorchEngine:
        """Load safetensors weights into a registered network, or an ONNX model when `network` is None.

        threads: of the whole process, since torch knows no others; None leaves them as they are.
        device: None for the CPU, `auto`, or torch's name of a device.
        Raises FailedPrecondition without torch, NotFound, DataLoss for weights that do not fit.
        """
        torch = _import("torch")
        if threads is not None:
            if threads < 1:
                raise InvalidArgument(f"an engine needs at least 1 thread, not {threads}")
            torch.set_num_threads(threads)
        data = source if isinstance(source, bytes) else _read(Path(source))
        if network is None:
            return cls(*_from_onnx(data), choose_device(device))
        if network not in _networks:
            raise NotFound(f"no network {network!r} is registered{nearest(network, _networks)}")
        spec = _networks[network]
        return cls(_with_weights(spec.build(), data), spec.inputs, spec.outputs, choose_device(device))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        if self._module is None:
            raise FailedPrecondition("the model was closed; load it again")
        check_inputs(self.inputs, inputs)
        torch = self._torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[spec.name]).to(self._device) for spec in self.inputs]
            result = self._module(*tensors)
        values = result if isinstance(result, (tuple, list)) else (result,)
        return {spec.name: value.cpu().numpy() for spec, value in zip(self.outputs, values, strict=True)}

    def close(self) -> None:
        """Release the module."""
        self._module = None


def _with_weights(module: torch.nn.Module, data: bytes) -> torch.nn.Module:
    safetensors = _import("safetensors.torch")
    try:
        module.load_state_dict(safetensors.load(data), strict=True)
    except Exception as error:  # safetensors and torch share no base class.
        raise DataLoss(f"the weights do not fit the network: {error}") from error
    return module


def _from_onnx(data: bytes) -> tuple[torch.nn.Module, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    onnx, onnx2torch = _import("onnx"), _import("onnx2torch")
    try:
        model = onnx.load_model_from_string(data)
        weights = {tensor.name for tensor in model.graph.initializer}
        specs = [
            tuple(_spec(onnx, value) for value in values if value.name not in weights)
            for values in (model.graph.input, model.graph.output)
        ]
        module = onnx2torch.convert(model)
    except NotImplementedError as error:
        raise FailedPrecondition(
            f"torch can't run this ONNX model: {error}; take the fp32 variant, or the onnx engine"
        ) from error
    except Exception as error:
        raise DataLoss(f"the {len(data)} bytes are not an ONNX model: {error}") from error
    return module, specs[0], specs[1]


def _spec(onnx: Any, value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(value.name, shape, dtype, layout_of(shape))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"the model file {os.fspath(path)!r} can't be read: {error.strerror}") from error


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FailedPrecondition(
            f"the torch engine needs the package {name.partition('.')[0]!r}: pip install smol[torch]"
        ) from error
