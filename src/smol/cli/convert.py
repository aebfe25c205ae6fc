"""From published PyTorch weights to ONNX: `python -m smol.cli.convert WEIGHTS ONNX NETWORK SIDE`.

Runs in a process of its own. Only tensors are unpickled (`weights_only`). What comes
out is compared with torch before it is taken.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from smol.engines.onnx import OnnxEngine
from smol.errors import DataLoss, FailedPrecondition, SmolError

__all__ = ["convert"]

_TIMEOUT_SECONDS = 300
_MAX_DIFFERENCE = 1e-3
_OPSET = 17


def convert(weights: Path, target: Path, network: str, side: int) -> None:
    """Write the network with these weights as ONNX. Raises FailedPrecondition without torch, DataLoss."""
    for package in ("torch", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise FailedPrecondition(
                f"these weights are PyTorch's and are converted once, which needs the package {package!r}: "
                "pip install smol[torch]"
            )
    command = [sys.executable, "-m", "smol.cli.convert", str(weights), str(target), network, str(side)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise DataLoss(f"{weights.name} was not converted within {_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DataLoss(f"{weights.name} can't be converted: {last or f'signal {-done.returncode}'}")


def _convert(weights: str, target: str, network: str, side: int) -> None:
    import torch  # Heavy: only this process pays for it.

    from smol.models.mobilenet import SsdLite, mobilenet_v3_large, mobilenet_v3_small

    builders = {
        "mobilenet_v3_small": mobilenet_v3_small,
        "mobilenet_v3_large": mobilenet_v3_large,
        "ssdlite": SsdLite,
    }
    torch.set_num_threads(1)
    module = builders[network]()
    try:
        module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    except Exception as error:  # Torch and pickle share no base class.
        reason = str(error).strip().replace("\n", " ")[:300]
        raise DataLoss(f"the weights do not fit the network {network}: {reason}") from error
    module.eval()
    picture = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (picture,), target, opset_version=_OPSET, dynamo=False,
            input_names=["picture"], output_names=["output"],
        )  # fmt: skip
        expected = module(picture).numpy()
    found = OnnxEngine.load(target, threads=1).run({"picture": picture.numpy()})["output"]
    difference = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not difference <= _MAX_DIFFERENCE:
        raise DataLoss(f"the converted network differs from the original by {difference:.2g}")


def main() -> None:
    """Convert one file."""
    weights, target, network, side = sys.argv[1:5]
    try:
        _convert(weights, target, network, int(side))
    except SmolError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
