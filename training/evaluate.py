"""Measure the embedded networks, through the same preprocessing, heads and runtime that the units use.

Writes `reports/TASK.json`, prints it, and draws `reports/TASK.png` from what training noted, if that is still
there. Every picture here was held back from training.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from data import COCO_IDS, TAUGHT_CLASSES, imagenet_numbers, load_cifar, outlier_files, strange_files
from export import detector
from loop import draw_curves
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smol.engines.onnx import OnnxEngine
from smol.models import Model, Store, Variant, load_catalog
from smol.models.networks import CLASSIFY_CLASSES, DETECT_CLASSES
from smol.vision import HEADS, Preprocessor, decode, suppress

CATEGORIES = {TAUGHT_CLASSES[place]: number for number, place in COCO_IDS.items()}
"""Of the classes' names: COCO's category ids."""
ANIMALS = ("cat", "dog", "horse", "sheep", "cow")
THRESHOLD = 0.4  # The default of the unit.
LAST_FRAME_WITH_PERSON, FIRST_FRAME_WITH_NEXT = 55, 115


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of datasets")
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "runs")
    parser.add_argument("--reports", type=Path, default=Path(__file__).parent / "reports")
    parser.add_argument("--task", choices=["detect", "classify"], action="append")
    options = parser.parse_args()
    options.reports.mkdir(parents=True, exist_ok=True)
    catalog, store = load_catalog(), Store(options.runs)
    for task in options.task or ["classify", "detect"]:
        report = {}
        for model, variant in catalog.variants(task):
            if variant.embedded:
                network = Network(model, variant, store)
                measure = measure_detector if task == "detect" else measure_classifier
                report[f"{model.name}:{variant.name}"] = {
                    "sha256": variant.sha256,
                    "bytes": variant.bytes,
                    **measure(network, options.data, options.runs),
                }
        text = json.dumps(report, indent=2)
        (options.reports / f"{task}.json").write_text(text + "\n")
        print(text)
        if (options.runs / f"smol-{task}.json").exists():
            history = json.loads((options.runs / f"smol-{task}.json").read_text())
            history += learning_curve(options) if task == "detect" else []
            draw_curves(history, options.reports / f"{task}.png")


class Network:
    """An embedded variant, ready to run on pictures."""

    def __init__(self, model: Model, variant: Variant, store: Store) -> None:
        self.model, self.variant = model, variant
        self.engine = OnnxEngine.load(store.obtain(variant), threads=2)
        self.prepare = Preprocessor(**msgspec.structs.asdict(variant.input))

    def run(self, tensor: np.ndarray) -> np.ndarray:
        (output,) = self.engine.run({"image": tensor}).values()
        return output

    def detect(self, path: Path, threshold: float) -> list[tuple[int, float, list[float]]]:
        """(class, score, corners in pixels of the picture), best first."""
        tensor, placement = self.prepare(decode(path.read_bytes()))
        size, output = self.variant.input, self.variant.output
        found = suppress(
            HEADS[output.head](self.run(tensor), size.width, size.height, threshold), output.max_overlap, 100
        )
        corners = placement.to_picture(found.corners)
        return list(zip(found.classes.tolist(), found.scores.tolist(), corners.tolist(), strict=True))

    def median_ms(self) -> float:
        tensor = np.zeros((1, 3, self.variant.input.height, self.variant.input.width), np.float32)
        times = []
        for _ in range(60):
            start = time.perf_counter()
            self.run(tensor)
            times.append((time.perf_counter() - start) * 1e3)
        return round(float(np.median(times[10:])), 2)


class Snapshot(Network):
    """A checkpoint on the way, run by torch in place of the engine."""

    def __init__(self, path: Path, variant: Variant) -> None:
        self.variant = variant
        self.module = detector(path)
        self.prepare = Preprocessor(**msgspec.structs.asdict(variant.input))

    def run(self, tensor: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output: np.ndarray = self.module(torch.from_numpy(tensor)).numpy()
        return output


def measure_detector(network: Network, data: Path, runs: Path) -> dict[str, Any]:
    return {
        "animals_val": average_precision(network, data / "animals-det", "instances_val.json", ANIMALS),
        "coco_val64": average_precision(network, data / "coco-val64", "instances.json", DETECT_CLASSES),
        "person_frames": frames_right(network, data / "video" / "person-frames"),
        "false_boxes_per_picture": false_boxes(network, data),
        "ms_two_threads": network.median_ms(),
    }


def learning_curve(options: argparse.Namespace) -> list[dict[str, float]]:
    """What the snapshots of training reach on the animals, at 256 pixels, over its minutes."""
    _, variant = load_catalog().find("detect", "smol-detect:256")
    rows = []
    for snapshot in sorted(options.runs.glob("smol-detect.*of8.pt")):
        network = Snapshot(snapshot, variant)
        reached = average_precision(network, options.data / "animals-det", "instances_val.json", ANIMALS)
        minutes = torch.load(snapshot, weights_only=True)["spent_seconds"] / 60
        rows.append({"minutes": minutes, "animals_val_AP50": reached["AP50"]})
        print(rows[-1])
    return rows


def average_precision(network: Network, folder: Path, file: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """AP and AP50 in percent, over `classes` and for each of those that the pictures show."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / file))
        results = [
            {
                "image_id": image["id"],
                "category_id": CATEGORIES[DETECT_CLASSES[kind]],
                "score": score,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for image in truth.imgs.values()
            for kind, score, (x1, y1, x2, y2) in network.detect(folder / "images" / image["file_name"], 0.01)
        ]
        judged = COCOeval(truth, truth.loadRes(results), "bbox")
        judged.params.catIds = [CATEGORIES[name] for name in classes]
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    precision = judged.eval["precision"][0, :, :, 0, 2]  # IoU 0.5, all sizes, 100 boxes: [recall, class]
    by_class = {
        name: round(100 * float(precision[:, index].mean()), 1)
        for index, name in enumerate(classes)
        if (precision[:, index] > -1).any()
    }
    return {
        "AP": round(100 * judged.stats[0], 1),
        "AP50": round(100 * judged.stats[1], 1),
        "AP50_by_class": by_class,
    }


def frames_right(network: Network, folder: Path) -> dict[str, Any]:
    """Percent of the frames where somebody is found exactly if somebody is there; borders are left out."""
    right: list[bool] = []
    missed = false = 0
    for index, path in enumerate(sorted(folder.glob("*.jpg"))):
        if abs(index - LAST_FRAME_WITH_PERSON) <= 2 or abs(index - FIRST_FRAME_WITH_NEXT) <= 2:
            continue
        there = index < LAST_FRAME_WITH_PERSON or index > FIRST_FRAME_WITH_NEXT
        seen = any(kind == 0 for kind, _, _ in network.detect(path, THRESHOLD))
        right.append(seen == there)
        missed += there and not seen
        false += seen and not there
    return {"percent_right": round(100 * float(np.mean(right)), 1), "missed": missed, "false": false}


def false_boxes(network: Network, data: Path) -> dict[str, float]:
    """Boxes for each picture that shows none of the classes but as far as its label says, and of other kinds.

    People are often in such pictures without being their label: boxes of `person` are counted apart.
    """
    others = [path for path in outlier_files(data, held_out=True) if not _shows_a_class(path, data)]
    found = [kind for path in others for kind, _, _ in network.detect(path, THRESHOLD)]
    person = sum(kind == 0 for kind in found)
    return {
        "pictures": len(others),
        "person": round(person / len(others), 3),
        "other": round((len(found) - person) / len(others), 3),
    }


def _shows_a_class(path: Path, data: Path) -> bool:
    """By the number of its ImageNet class: dogs, cats, horses, sheep, cows, people."""
    number = _numbers(data)[path.name]
    ranges = ((151, 275), (281, 293), (339, 340), (345, 353), (981, 983))
    return any(low <= number <= high for low, high in ranges)


_numbers = functools.cache(imagenet_numbers)


def measure_classifier(network: Network, data: Path, runs: Path) -> dict[str, Any]:
    images, labels = load_cifar(data, "test", runs)
    mean, std = (np.float32(network.variant.input.mean[0]), np.float32(network.variant.input.std[0]))
    truth = labels.numpy()
    rows = [network.run((image[None].numpy() - mean) / std)[0] for image in images]
    scores = softmax(np.stack(rows))
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    outside = softmax(np.stack([_logits(network, path) for path in strange_files(data, held_out=True)])).max(
        axis=1
    )
    numbers = _numbers(data)
    dogs = [path for path in outlier_files(data, held_out=True) if 151 <= numbers[path.name] <= 268]
    named = softmax(np.stack([_logits(network, path) for path in dogs]))
    return {
        "cifar_test_accuracy": round(100 * float(right.mean()), 2),
        "by_class": {
            name: round(100 * float(right[truth == index].mean()), 1)
            for index, name in enumerate(CLASSIFY_CLASSES)
        },
        "large_photos_of_dogs": {
            "pictures": len(dogs),
            "named_dog": round(100 * float((named.argmax(axis=1) == CLASSIFY_CLASSES.index("dog")).mean()), 1),
        },
        "expected_calibration_error": round(100 * calibration_error(best, right), 2),
        "by_threshold": {
            str(threshold): {
                "answered": round(100 * float((best >= threshold).mean()), 1),
                "right_when_answered": round(100 * float(right[best >= threshold].mean()), 1),
                "sure_of_other_pictures": round(100 * float((outside >= threshold).mean()), 1),
            }
            for threshold in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        },
        "ms_two_threads": network.median_ms(),
    }


def _logits(network: Network, path: Path) -> np.ndarray:
    tensor, _ = network.prepare(decode(path.read_bytes(), enough=network.prepare.enough))
    return network.run(tensor)[0]


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Mean distance of score and accuracy over equal bins (Naeini et al. 2015)."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(scores[place == i].sum() - right[place == i].sum()) for i in range(bins)]
    return float(sum(gaps) / len(scores))


if __name__ == "__main__":
    main()
