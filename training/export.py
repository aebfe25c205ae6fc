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
from data import CANVAS, MAX_BOXES, MEAN, STD, TAUGHT_CLASSES, Scenes, load_cifar, load_outliers, load_scenes
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
from train_classify import logits_of, split
from train_detect import plain_overlap

from smol.models.networks import DETECT_CLASSES, SmolClassify, SmolDetect
from smol.vision import HEADS, suppress

EMBEDDED = Path(__file__).parents[1] / "src" / "smol" / "models" / "embedded"
CALIBRATION_PICTURES = 128
CALIBRATION_STEP = 5
"""Every fifth training picture tells what scores are worth."""


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
        images, labels = load_cifar(options.data, "train", options.runs)
        model = trained(SmolClassify(), averaged(options.runs / "smol-classify.pt"))
        held, _ = split(len(images))
        strange = load_outliers(options.data, options.runs)
        familiar, unfamiliar = (logits_of(model, part, torch.device("cpu")) for part in (images[held], strange))
        print(f"smol-classify: unsure_below = {fit_unsure(familiar, labels[held], unfamiliar):.2f}")
        keep(model, options.runs / "smol-classify.safetensors")
        write(model, 32, options.out / "smol_classify.onnx", "logits")
        quantise(model, 32, options.out / "smol_classify_int8.onnx", "logits", spread(images))
    if options.only != "classify":
        scenes = load_scenes(options.data, options.runs, options.teacher)
        model = calibrated(detector(options.runs / "smol-detect.pt"), scenes)
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


def fit_unsure(familiar: Tensor, labels: Tensor, strange: Tensor) -> float:
    """The highest probability below which answers are more often wrong than right: `unsure_below` of the catalog.

    familiar, labels: logits [n, classes] of pictures held out of the training, with their classes [n].
    strange: logits [m, classes] of pictures outside the classes, for which any answer is wrong; together they
    weigh as much as the familiar ones. The sum of right answers above and wrong ones below the threshold is the
    largest, which is where answers of about that probability are wrong as often as right.
    """
    logits = torch.cat((familiar, strange))
    best, kinds = logits.softmax(dim=1).max(dim=1)
    worth = torch.full((len(logits),), -len(familiar) / max(1, len(strange)))
    worth[: len(familiar)] = torch.where(kinds[: len(familiar)] == labels, 1.0, -1.0)
    order = best.argsort()
    lost = torch.cat((torch.zeros(1), worth[order].double().cumsum(dim=0)))  # By calling the first of them unsure.
    edges = torch.cat((torch.zeros(1), (best[order][1:] + best[order][:-1]) / 2, torch.ones(1)))
    return float(edges[lost.argmin()])


def calibrated(model: nn.Module, scenes: Scenes) -> nn.Module:
    """With logits changed by a factor, and by a shift for each class, so that a score is how often a box is right.

    Fitted (Platt 1999) to what the detector says of training pictures: soft targets teach it what the teacher and
    the overlap of its boxes are worth together, which is less. Both are folded into the last convolution.
    """
    said, kinds, right = verdicts(model, scenes)
    factor, shift = torch.ones((), requires_grad=True), torch.zeros(len(DETECT_CLASSES), requires_grad=True)
    fit = torch.optim.LBFGS((factor, shift), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        fit.zero_grad()
        logits = said * factor + shift[kinds]
        value = nn.functional.binary_cross_entropy_with_logits(logits, right) + 1e-3 * shift.square().mean()
        value.backward()
        return value

    fit.step(loss)
    print(f"calibrated on {len(said)} boxes: factor {factor:.2f}, shifts {shift.tolist()}")
    with torch.no_grad():
        model.scores.weight *= factor
        model.scores.bias.mul_(factor).add_(shift)
    return model


@torch.no_grad()
def verdicts(model: nn.Module, scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Of the boxes found in training pictures: their logits, classes, and how sure it is that they are right."""
    rows = []
    for index in range(0, len(scenes.images), CALIBRATION_STEP):
        view = ((scenes.images[index].permute(2, 0, 1)[None].float() - MEAN) / STD).contiguous()
        found = suppress(HEADS["decoded"](model(view).numpy(), CANVAS, CANVAS, 0.03), 0.6, MAX_BOXES)
        boxes, known = scenes.boxes[index], scenes.scores[index]
        overlap = plain_overlap(torch.from_numpy(found.corners)[:, None], boxes) if len(found.scores) else None
        taken: set[int] = set()
        for place, (score, kind) in enumerate(zip(found.scores, found.classes, strict=True)):
            claims = known[:, TAUGHT_CLASSES.index(DETECT_CLASSES[kind])] * (overlap[place] > 0.5)
            claims[list(taken)] = 0.0
            best = int(claims.argmax())
            if claims[best] > 0:
                taken.add(best)
            rows.append((float(np.log(score / (1 - score))), int(kind), float(claims[best])))
    said, kinds, right = zip(*rows, strict=True)
    return torch.tensor(said), torch.tensor(kinds), torch.tensor(right)


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
