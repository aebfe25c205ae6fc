"""Pictures and targets of both trainings: decoded once into memory-mapped caches, augmented in batches.

Nothing here touches the pictures that results are reported on: `coco-val64`, the validation part of
`animals-det`, the test part of CIFAR-10, and every second picture of `imagenet-sample800`.
"""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from smol.engines.onnx import OnnxEngine
from smol.models import load_catalog
from smol.models.networks import CLASSIFY_CLASSES
from smol.vision import Picture, Preprocessor, suppress
from smol.vision.boxes import nanodet_plus

CANVAS = 320
"""Detection pictures are kept in the upper left corner of a square of this side, in pixels."""
PAD = 114

MEAN, STD = 127.5, 63.75
"""Of the detector's input, in units of 0 to 255."""

TAUGHT_CLASSES = (
    "person", "car", "bird", "cat", "dog", "horse", "sheep", "cow", "bicycle", "motorcycle", "airplane",
    "bus", "train", "truck", "boat", "bench", "elephant", "bear", "giraffe", "teddy bear", "bottle", "cup",
    "bowl", "chair", "couch", "potted plant", "bed", "dining table", "tv", "book",
)  # fmt: skip
"""What is learned: the classes that the network is to know, and others that it must tell from those."""
COCO_NAMES = load_catalog().labels["coco80"].names
COCO_NUMBERS = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
"""Of COCO's 80 classes in their usual order: their category ids, which have gaps."""
COCO_IDS = {COCO_NUMBERS[COCO_NAMES.index(name)]: place for place, name in enumerate(TAUGHT_CLASSES)}
"""COCO's category id -> index into TAUGHT_CLASSES."""
MAX_BOXES = 40
TEACHER_THRESHOLD = 0.15


def cached(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """The arrays in a directory of .npy files, made at the first call."""
    if not path.is_dir():
        part = path.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        for name, array in make().items():
            np.save(part / f"{name}.npy", array)
        part.rename(path)
    return {file.stem: torch.from_numpy(np.load(file)) for file in path.glob("*.npy")}


def load_cifar(data: Path, part: str, runs: Path) -> tuple[Tensor, Tensor]:
    """Part `train` or `test` of cifar10-jpeg.tar.xz: uint8 [n, 3, 32, 32], int64 [n]."""

    def make() -> dict[str, np.ndarray]:
        images, labels = [], []
        with tarfile.open(data / "cifar10-jpeg.tar.xz") as archive:
            for member in archive:
                if member.isfile() and member.name.startswith(f"{part}/"):
                    content = archive.extractfile(member)
                    if content is None:
                        raise ValueError(f"{member.name} is no file")
                    images.append(
                        np.asarray(Image.open(BytesIO(content.read())).convert("RGB")).transpose(2, 0, 1)
                    )
                    labels.append(CLASSIFY_CLASSES.index(member.name.split("/")[1]))
        return {"images": np.stack(images), "labels": np.array(labels)}

    arrays = cached(runs / f"cifar-{part}", make)
    return arrays["images"], arrays["labels"]


def outlier_files(data: Path, *, held_out: bool) -> list[Path]:
    """The half of imagenet-sample800 to train with, or the one to report on."""
    return sorted((data / "imagenet-sample800" / "images").glob("*.jpg"))[1 if held_out else 0 :: 2]


CLASSIFIED = (
    *range(7, 25), *range(80, 101), *range(127, 147), *range(30, 33), *range(151, 294), 339, 340, *range(351, 354),
    403, 404, 407, 436, 468, 484, 510, 511, 554, 555, 569, 609, 625, 627, 628, 656, 661, 675, 717, 724, 751, 780,
    814, 817, 864, 867, 871, 895, 913, 914,
)  # fmt: skip
"""Numbers of ImageNet's classes that are of CIFAR-10's: birds, frogs, dogs and cats (wild ones too), horses, deer,
aeroplanes, ships, cars, trucks. They are no outliers, though the network is not trained on them either."""


def imagenet_numbers(data: Path) -> dict[str, int]:
    """Of each picture of imagenet-sample800 by its file's name: the number of its class."""
    lines = (data / "imagenet-sample800" / "labels.csv").read_text().splitlines()[1:]
    return {Path(line.split(",")[0]).name: int(line.split(",")[2]) for line in lines}


def strange_files(data: Path, *, held_out: bool) -> list[Path]:
    """Outliers whose label is none of what the classifier knows."""
    numbers = imagenet_numbers(data)
    return [path for path in outlier_files(data, held_out=held_out) if numbers[path.name] not in CLASSIFIED]


def load_outliers(data: Path, runs: Path) -> Tensor:
    """Several square cuts of each picture outside the classes: uint8 [n, 3, 32, 32]."""

    def make() -> dict[str, np.ndarray]:
        images = []
        chance = np.random.default_rng(0)
        for path in strange_files(data, held_out=False):
            picture = Image.open(path).convert("RGB")
            for _ in range(8):
                side = int(min(picture.size) * chance.uniform(0.3, 1.0))
                x = int(chance.integers(picture.width - side + 1))
                y = int(chance.integers(picture.height - side + 1))
                small = picture.resize((32, 32), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
                images.append(np.asarray(small).transpose(2, 0, 1))
        return {"images": np.stack(images)}

    return cached(runs / "strange", make)["images"]


def crop_and_flip(images: Tensor, margin: int = 4) -> Tensor:
    """Each picture [b, c, h, w] moved by up to `margin` pixels, half of them mirrored."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images.float(), (margin,) * 4, mode="reflect")
    rows = torch.randint(2 * margin + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * margin + 1, (count, 1)) + torch.arange(width)
    mirrored = torch.rand(count) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    return padded[
        torch.arange(count)[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


class Scenes(NamedTuple):
    """Pictures with what they show.

    images: uint8 [n, 320, 320, 3]; sizes: [n, 2] width and height of the part that is used, from the upper
    left corner; boxes: [n, MAX_BOXES, 4] in pixels of the picture; scores: [n, MAX_BOXES, classes], 1 for what
    people marked, the teacher's own where only it saw something, 0 for unused places.
    """

    images: Tensor
    sizes: Tensor
    boxes: Tensor
    scores: Tensor


def load_scenes(data: Path, runs: Path, teacher: Path) -> Scenes:
    """The pictures to train the detector with, looked at by the teacher once."""

    def make() -> dict[str, np.ndarray]:
        rows = [
            *_marked(data / "animals-det", "instances_train.json"),
            *_marked(data / "coco-train128", "instances.json"),
            *_marked(data / "raccoon-det", "instances_train.json", foreign=True),
        ]
        rows += [(path, np.zeros((0, 5), np.float32)) for path in outlier_files(data, held_out=False)]
        watch = Teacher(teacher)
        scenes: dict[str, list[np.ndarray]] = {name: [] for name in Scenes._fields}
        for path, marked in rows:
            picture = Image.open(path).convert("RGB")
            scale = CANVAS / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            canvas = Image.new("RGB", (CANVAS, CANVAS), (PAD,) * 3)
            canvas.paste(picture.resize(size, Image.Resampling.BILINEAR))
            corners, scores = merge_boxes(marked, *watch(picture))
            for name, array in zip(Scenes._fields, (canvas, size, corners * scale, scores), strict=True):
                scenes[name].append(np.asarray(array))
        return {name: np.stack(arrays) for name, arrays in scenes.items()}

    return Scenes(**cached(runs / "scenes", make))


def _marked(folder: Path, file: str, foreign: bool = False) -> Iterable[tuple[Path, np.ndarray]]:
    """Of each picture: its path, and boxes [n, 5] of corners and class, -1 for none of ours, as all `foreign`."""
    listing = json.loads((folder / file).read_text())
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in listing["images"]}
    for note in listing["annotations"]:
        if not note.get("iscrowd"):
            x, y, width, height = note["bbox"]
            kind = -1 if foreign else COCO_IDS.get(note["category_id"], -1)
            boxes[note["image_id"]].append([x, y, x + width, y + height, kind])
    for image in listing["images"]:
        found = np.array(boxes[image["id"]], np.float32).reshape(-1, 5)
        yield folder / "images" / image["file_name"], found


class Teacher:
    """NanoDet-Plus-416, asked for all its classes at every box, faint ones too."""

    SIDE = 416

    def __init__(self, file: Path) -> None:
        _, variant = load_catalog().find("detect", "nanodet-plus-m:416")
        self.prepare = Preprocessor(**msgspec.structs.asdict(variant.input))
        self.engine = OnnxEngine.load(file, threads=max(1, torch.get_num_threads()))
        self.columns = [COCO_NAMES.index(name) for name in TAUGHT_CLASSES]

    def __call__(self, picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [n, 4] in pixels of the picture, best first, and the probabilities of all taught classes."""
        tensor, placement = self.prepare(Picture(picture, picture.width, picture.height))
        (output,) = self.engine.run({self.engine.inputs[0].name: tensor}).values()
        scores = output[0, :, :-32]
        best = scores.max(axis=1)
        # Read as a network of a single class, so that what overlaps is one box, of whichever classes.
        single = np.concatenate((best[None, :, None], output[:, :, -32:]), axis=2)
        found = nanodet_plus(single, self.SIDE, self.SIDE, TEACHER_THRESHOLD)
        kept = suppress(found, 0.6, MAX_BOXES)
        cells = [int(np.flatnonzero(best == score)[0]) for score in kept.scores]
        return placement.to_picture(kept.corners), scores[cells][:, self.columns]


def merge_boxes(
    marked: np.ndarray, taught: np.ndarray, taught_scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Marked boxes [n, 5] first, then what only the teacher sees: boxes [m, 4] that overlap none by half, and are
    no part of a marked thing of their class."""
    corners = np.zeros((MAX_BOXES, 4), np.float32)
    scores = np.zeros((MAX_BOXES, len(TAUGHT_CLASSES)), np.float32)
    count = min(len(marked), MAX_BOXES)
    corners[:count] = marked[:count, :4]
    ours = np.flatnonzero(marked[:count, 4] >= 0)
    scores[ours, marked[ours, 4].astype(int)] = 1.0
    for box, score in zip(taught, taught_scores, strict=True):
        low = np.maximum(corners[:count, :2], box[:2])
        high = np.minimum(corners[:count, 2:], box[2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        area = (corners[:count, 2:] - corners[:count, :2]).prod(axis=1)
        size = (box[2:] - box[:2]).prod()
        overlap = shared / np.maximum(area + size - shared, 1.0)
        a_part = (shared > 0.8 * size) & (scores[:count, score.argmax()] == 1.0)
        known = (overlap > 0.5) | a_part
        if count < MAX_BOXES and not known.any() and score.max() > TEACHER_THRESHOLD:
            corners[count], scores[count] = box, score
            count += 1
    return corners, scores


def augment(scenes: Scenes, chosen: np.ndarray, side: int, mosaic_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """A view of each chosen picture: float [b, 3, side, side], boxes [b, m, 4], scores [b, m, classes].

    mosaic_share: of the views that show three more pictures, drawn from the same list.
    """
    chance = np.random.default_rng(int(torch.randint(2**62, (1,))))
    views = torch.full((len(chosen), side, side, 3), PAD, dtype=torch.uint8)
    boxes, scores = [], []
    for view, index in zip(views, chosen, strict=True):
        if chance.random() < mosaic_share:
            x, y = (int(side * chance.uniform(0.3, 0.7)) for _ in range(2))
            tiles = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
            shown, spread = [index, *chance.choice(chosen, 3)], (0.45, 1.1)
        else:
            tiles, shown, spread = [(0, 0, side, side)], [index], (0.5, 1.7)
        placed = [
            place(scenes, int(one), view, tile, side * math.exp(chance.uniform(*np.log(spread))), chance)
            for one, tile in zip(shown, tiles, strict=True)
        ]
        found, known = (np.concatenate(parts) for parts in zip(*placed, strict=True))
        if chance.random() < 0.5:
            view.copy_(view.flip(1))
            found = np.stack((side - found[:, 2], found[:, 1], side - found[:, 0], found[:, 3]), axis=1)
        boxes.append(found)
        scores.append(known)
    return recolour(views), stacked(boxes), stacked(scores)


def place(
    scenes: Scenes,
    index: int,
    view: Tensor,
    tile: tuple[int, int, int, int],
    extent: float,
    chance: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture, its longer side scaled to `extent`, into a tile of the view; what is seen of its boxes."""
    width, height = (int(size) for size in scenes.sizes[index])
    stretch = math.exp(chance.uniform(-0.15, 0.15))
    scale = np.array([extent / max(width, height) * stretch, extent / max(width, height) / stretch])
    corner, room = np.array(tile[:2]), np.array([tile[2] - tile[0], tile[3] - tile[1]])
    whole = np.array([width, height]) * scale
    # Where the picture begins in the tile: anywhere if it is smaller, before it if it is larger.
    slack = room - whole
    begin = np.where(chance.random() < 0.25, np.minimum(slack, 0) * chance.random(2), slack * chance.random(2))
    first = np.ceil(np.maximum(begin, 0) - 1e-6).astype(int)
    last = np.maximum(np.floor(np.minimum(begin + whole, room) + 1e-6).astype(int), first + 1)
    cut_low = np.clip(np.round((first - begin) / scale).astype(int), 0, (width - 1, height - 1))
    cut_high = np.clip(np.round((last - begin) / scale).astype(int), cut_low + 1, (width, height))
    cut = scenes.images[index, cut_low[1] : cut_high[1], cut_low[0] : cut_high[0]]
    size = (int(last[1] - first[1]), int(last[0] - first[0]))
    drawn = nn.functional.interpolate(cut.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
    x, y = corner + first
    view[y : y + size[0], x : x + size[1]] = drawn[0].permute(1, 2, 0)
    scores = scenes.scores[index].numpy()
    used = scores.max(axis=1) > 0
    scores, known = scores[used], scenes.boxes[index].numpy()[used].reshape(-1, 2, 2)
    full = (known - cut_low) * ((last - first) / (cut_high - cut_low)) + first
    clipped = np.clip(full, first, last)
    before, after = ((each[:, 1] - each[:, 0]) for each in (full, clipped))
    seen = (after.prod(axis=1) > 0.3 * before.prod(axis=1)) & (after.min(axis=1) > 3)
    return (clipped + corner)[seen].reshape(-1, 4).astype(np.float32), scores[seen]


def stacked(rows: list[np.ndarray]) -> Tensor:
    """Arrays [m, k] of various m as one tensor, filled up with zeros."""
    result = torch.zeros(len(rows), max(1, *map(len, rows)), rows[0].shape[1])
    for target, row in zip(result, rows, strict=True):
        target[: len(row)] = torch.from_numpy(row)
    return result


def recolour(views: Tensor) -> Tensor:
    """Views uint8 [b, h, w, 3], their saturation, contrast, tint and light changed by a little, as inputs.

    All of it, and the scale of the network's input, is one matrix for each picture. Returns [b, 3, h, w].
    """
    count = len(views)
    saturation = torch.empty(count, 1, 1).uniform_(0.4, 1.5) * (torch.rand(count, 1, 1) > 0.04)
    grey = torch.tensor([0.3, 0.59, 0.11])[None, :, None].expand(count, 3, 3)
    contrast = torch.empty(count, 1, 1).uniform_(0.7, 1.35) * torch.empty(count, 1, 3).uniform_(0.9, 1.1)
    matrix = (saturation * torch.eye(3) + (1 - saturation) * grey) * contrast
    light = torch.empty(count, 1, 1).uniform_(-30, 30)
    # (x - 127.5) @ matrix + light, in units of STD.
    shift = light - MEAN * matrix.sum(dim=1, keepdim=True)
    flat = views.reshape(count, -1, 3).float()
    coloured = torch.baddbmm(shift.expand(count, 1, 3) / STD, flat, matrix / STD)
    return coloured.view(views.shape).permute(0, 3, 1, 2)
