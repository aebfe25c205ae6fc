"""ONNX Runtime on the CPU: the default engine.

Settings were chosen by measurement with NanoDet-Plus and MobileNetV2 on two cores. Without the
arena and the memory pattern a worker holds what the model needs, and not the peak of every run.
Waiting threads sleep: spinning gains 10 to 20 % of the inference when nobody else wants the cores,
and loses 40 % when somebody does, and with several workers on two cores somebody does.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smol.engines.engine import Array, TensorSpec, check_inputs, layout_of
from smol.errors import DataLoss, FailedPrecondition, Internal, InvalidArgument, NotFound
from smol.heap import return_free_memory

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxEngine", "default_threads"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3
_TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


def default_threads() -> int:
    """Two where there are two cores: a third gains little for small networks."""
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class OnnxEngine:
    """A session of ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self.inputs: Sequence[TensorSpec] = tuple(_spec(value) for value in session.get_inputs())
        self.outputs: Sequence[TensorSpec] = tuple(_spec(value) for value in session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]

    @classmethod
    def load(
        cls, source: str | os.PathLike[str] | bytes, *, threads: int | None = None, spin: bool = False
    ) -> OnnxEngine:
        """Load an ONNX model from a file (read by the runtime itself) or from bytes.

        threads: that one run may use; None takes `default_threads`.
        spin: let threads that wait for each other within a run burn their core instead of sleeping.
        Raises NotFound, DataLoss when it is no model, InvalidArgument for a bad number of threads.
        """
        if threads is not None and threads < 1:
            raise InvalidArgument(f"an engine needs at least 1 thread, not {threads}")
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise NotFound(f"there is no model file {os.fspath(source)!r}")
            source = os.fspath(source)
        onnxruntime = _onnxruntime()
        options = _options(default_threads() if threads is None else threads, spin)
        try:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # The runtime's errors share no base class.
            what = "the given bytes" if isinstance(source, bytes) else repr(source)
            raise DataLoss(f"ONNX Runtime can't load {what}: {_first_line(error)}") from error
        engine = cls(session)
        return_free_memory()
        return engine

    @staticmethod
    def warm() -> None:
        """Import the runtime, so that what is measured afterwards is a model's own."""
        _onnxruntime()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Inputs are checked only after a failure, so that a good run pays nothing."""
        session = self._session
        if session is None:
            raise FailedPrecondition("the model was closed; load it again")
        try:
            values = session.run(self._output_names, inputs)
        except Exception as error:
            check_inputs(self.inputs, inputs)
            raise Internal(f"ONNX Runtime failed: {_first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        if self._session is not None:
            self._session = None
            return_free_memory()


def _onnxruntime() -> Any:
    """The runtime, imported late so that a unit can be described without paying for it.

    From 1.29 on its Linux builds report each model and machine to their maker, from the import on,
    unless told not to by the environment. Smol sends nothing to anybody.
    """
    os.environ[_TELEMETRY_OFF] = "1"
    return importlib.import_module("onnxruntime")


def _options(threads: int, spin: bool) -> onnxruntime.SessionOptions:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # Never between runs.
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type), layout_of(shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
