"""Trying a model in a process of its own: `python -m smol.cli.probe FILE ENGINE [NETWORK]`.

A file that comes from anywhere may crash the runtime, or make it ask for all memory there is: here that
costs only this process. Told on standard output as JSON: what goes in and out, the peak of memory, and whether
the output looks like probabilities.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from smol.engines import Engine
from smol.engines.engine import TensorSpec
from smol.engines.onnx import OnnxEngine
from smol.engines.torch import TorchEngine
from smol.errors import FailedPrecondition, InvalidArgument, SmolError
from smol.units.networks import register_embedded

__all__ = ["Finding", "probe"]

MAX_SIDE = 2048
"""Pixels: pictures for larger inputs would not fit the budget."""
_MAX_ADDRESSES_BYTES = 6 * 2**30
_TIMEOUT_SECONDS = 60
_RUNS = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """reserved_bytes: what loading and running added to the process, at its peak, and a tenth."""

    inputs: tuple[TensorSpec, ...]
    output: tuple[int, ...]
    outputs: int
    probabilities: bool
    reserved_bytes: int


def probe(path: Path, engine: str = "onnx", network: str = "") -> Finding:
    """Load and run a model apart. Raises InvalidArgument with what it died of."""
    command = [sys.executable, "-m", "smol.cli.probe", str(path), engine, network]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_SECONDS, cwd=path.parent)
    except subprocess.TimeoutExpired:
        raise InvalidArgument(f"the model did not run within {_TIMEOUT_SECONDS} s; take a smaller one") from None
    if done.returncode < 0:
        raise InvalidArgument(
            f"the model killed the process that tried it (signal {-done.returncode}); it was not taken"
        )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2].replace(str(path), path.name)
        kind = FailedPrecondition if "pip install" in last else InvalidArgument
        raise kind(f"the model can't be used: {last or 'it ended without a word'}")
    return msgspec.json.decode(done.stdout, type=Finding)


def _try(path: str, engine_name: str, network: str) -> Finding:
    engine: Engine
    os.environ["OMP_NUM_THREADS"] = "1"
    if engine_name == "onnx":
        OnnxEngine.warm()
        before = _resident("VmRSS")
        engine = OnnxEngine.load(path, threads=1)
    else:
        register_embedded()
        before = _resident("VmRSS")
        engine = TorchEngine.load(path, network=network, threads=1)
    picture = np.random.default_rng(0).normal(size=_picture_shape(engine.inputs)).astype(np.float32)
    for _ in range(_RUNS):
        values = list(engine.run({engine.inputs[0].name: picture}).values())
    rows = values[0]
    if not np.isfinite(rows).all():
        raise InvalidArgument("its output is not finite for an ordinary input")
    flat = rows.ndim == 2 and bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3))
    grown = max(0, _resident("VmHWM") - before)
    return Finding(
        inputs=tuple(engine.inputs),
        output=tuple(rows.shape),
        outputs=len(values),
        probabilities=flat,
        reserved_bytes=-(-int(grown * 1.1) // 2**20) * 2**20 + 2**20,
    )


def _picture_shape(inputs: Sequence[TensorSpec]) -> tuple[int, int, int, int]:
    if len(inputs) != 1:
        raise InvalidArgument(
            f"it has {len(inputs)} inputs ({', '.join(s.name for s in inputs)}); one picture is fed"
        )
    shape = inputs[0].shape
    if inputs[0].dtype != "float32":
        raise InvalidArgument(f"its input {inputs[0].name!r} is {inputs[0].dtype}; export it with float32")
    if len(shape) != 4 or shape[1] != 3 or shape[0] not in (1, None):
        raise InvalidArgument(f"its input has shape {_shown(shape)}; [1, 3, height, width] is needed")
    height, width = shape[2:]
    if height is None or width is None:
        raise InvalidArgument(f"its input has shape {_shown(shape)}; export it with a fixed height and width")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InvalidArgument(f"its input has {width} x {height} pixels; at most {MAX_SIDE} x {MAX_SIDE} are run")
    return 1, 3, height, width


def _shown(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Try one model, and tell."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESSES_BYTES, _MAX_ADDRESSES_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, engine, network = sys.argv[1:4]
    try:
        finding = _try(path, engine, network)
    except SmolError as error:
        sys.exit(error.message)
    except MemoryError:
        sys.exit("it needs more memory than it may have")
    sys.stdout.buffer.write(msgspec.json.encode(finding))


if __name__ == "__main__":
    main()
