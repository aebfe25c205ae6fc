"""Turn the checkpoints in `runs/` into the files that the package embeds, and say what the catalog must know.

Weights of the plain ONNX files are kept in half precision and widened by the runtime as it loads them: half
the bytes, the same arithmetic. The 8-bit files are calibrated on pictures of the training set. Beside the
ONNX files, `runs/` gets safetensors for the torch engine.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from data import MEAN, STD, TAUGHT_CLASSES, load_cifar, load_scenes
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from smol.models.networks import DETECT_CLASSES, SmolClassify, SmolDetect

EMBEDDED = Path(__file__).parents[1] / "src" / "smol" / "models" / "embedded"
CALIBRATION_PICTURES = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of datasets")
    parser.add_argument("--teacher", type=Path, help="only needed when `runs` has no cache yet")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "runs")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--only", choices=["classify", "detect"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only != "detect":
        images, _ = load_cifar(options.data, "train", options.runs)
        model = trained(SmolClassify(), averaged(options.runs / "smol-classify.pt"))
        keep(model, options.runs / "smol-classify.safetensors")
        write(model, 32, options.out / "smol_classify.onnx", "logits")
        quantise(model, 32, options.out / "smol_classify_int8.onnx", "logits", spread(images))
    if options.only != "classify":
        scenes = load_scenes(options.data, options.runs, options.teacher)
        model = detector(options.runs / "smol-detect.pt")
        keep(model, options.runs / "smol-detect.safetensors")
        write(model, 320, options.out / "smol_detect.onnx", "boxes", any_side=True)
        pictures = spread(scenes.images.permute(0, 3, 1, 2))
        quantise(model, 320, options.out / "smol_detect_320_int8.onnx", "boxes", pictures)
    for path in sorted(options.out.glob("*.onnx")):
        content = path.read_bytes()
        print(f"{path.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def trained(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    model.load_state_dict(weights)
    return model.eval()


def keep(model: nn.Module, path: Path) -> None:
    """Write the weights as safetensors, for the torch engine."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def averaged(checkpoint: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")["average"]
    return weights


def detector(checkpoint: Path) -> nn.Module:
    """The detector without what served its training: the other classes, and the output for small pictures."""
    weights = {name: value for name, value in averaged(checkpoint).items() if not name.startswith("recognise.")}
    kept = [TAUGHT_CLASSES.index(name) for name in DETECT_CLASSES]
    for name in ("scores.weight", "scores.bias"):
        weights[name] = weights[name][kept]
    return trained(SmolDetect(), weights)


def write(model: nn.Module, side: int, path: Path, output: str, half: bool = True, any_side: bool = False) -> None:
    """Export; batch normalisation is folded into the convolutions.

    any_side: for inputs of other sides too, so that variants may share the file; costs 2 % of the time.
    """
    axes = {"image": {2: "height", 3: "width"}, output: {1: "cells"}} if any_side else None
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, side, side),),
        path,
        input_names=["image"],
        output_names=[output],
        opset_version=17,
        dynamo=False,
        dynamic_axes=axes,
    )
    graph = onnx.load(path)
    if half:
        halve(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def halve(model: onnx.ModelProto) -> None:
    """Store large float32 weights as float16, followed by a cast that is folded when the model is loaded."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4 and np.prod(tensor.dims) >= 256:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
            tensor = numpy_helper.from_array(values, f"{tensor.name}.half")
        kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class Pictures(CalibrationDataReader):
    """Feeds pictures uint8 [n, 3, h, w], scaled to the input's side."""

    def __init__(self, images: Tensor, side: int) -> None:
        self.images, self.side = iter(images), side

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        if image is None:
            return None
        inputs = (image[None].float() - MEAN) / STD
        if image.shape[-1] != self.side:
            inputs = nn.functional.interpolate(
                inputs, size=(self.side, self.side), mode="bilinear", antialias=True
            )
        return {"image": inputs.numpy()}


def quantise(model: nn.Module, side: int, path: Path, output: str, images: Tensor) -> None:
    """Weights in 8 bits without a sign: signed ones saturate on processors without VNNI.

    The outputs' own convolutions stay in float: they are small, and boxes need their precision.
    """
    plain = path.with_suffix(".plain")
    write(model, side, plain, output, half=False)
    last = [node.name for node in onnx.load(plain).graph.node if "/scores/" in node.name or "/sides/" in node.name]
    quantize_static(
        plain,
        path,
        Pictures(images, side),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
        per_channel=False,
        calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=["Conv", "Add", "MaxPool"] if side == 32 else ["Conv"],
        nodes_to_exclude=last,
    )
    plain.unlink()


def spread(images: Tensor) -> Tensor:
    """Some pictures, evenly over all."""
    return images[torch.linspace(0, len(images) - 1, CALIBRATION_PICTURES).long()]


if __name__ == "__main__":
    main()
