"""Pictures and targets of both trainings: decoded once into memory-mapped caches, augmented in batches.

Nothing here touches the pictures that results are reported on: `coco-val64`, the validation part of
`animals-det`, the test part of CIFAR-10, and every second picture of `imagenet-sample800`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from smol.models.networks import CLASSIFY_CLASSES, DETECT_CLASSES

CANVAS = 320
"""Detection pictures are kept in the upper left corner of a square of this side, in pixels."""
PAD = 114

COCO_IDS = dict(zip((1, 3, 16, 17, 18, 19, 20, 21), range(len(DETECT_CLASSES)), strict=True))
"""COCO's category id -> index into DETECT_CLASSES."""
COCO_INDICES = dict(zip((0, 2, 14, 15, 16, 17, 18, 19), range(len(DETECT_CLASSES)), strict=True))
"""Place in the usual list of COCO's 80 classes -> index into DETECT_CLASSES."""
MAX_BOXES = 24


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


def load_outliers(data: Path, runs: Path) -> Tensor:
    """Several square cuts of each picture outside the classes: uint8 [n, 3, 32, 32]."""

    def make() -> dict[str, np.ndarray]:
        images = []
        chance = np.random.default_rng(0)
        for path in outlier_files(data, held_out=False):
            picture = Image.open(path).convert("RGB")
            for _ in range(8):
                side = int(min(picture.size) * chance.uniform(0.3, 1.0))
                x = int(chance.integers(picture.width - side + 1))
                y = int(chance.integers(picture.height - side + 1))
                small = picture.resize((32, 32), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
                images.append(np.asarray(small).transpose(2, 0, 1))
        return {"images": np.stack(images)}

    return cached(runs / "outliers", make)["images"]


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


def load_detection(data: Path, runs: Path, teacher: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures uint8 [n, 3, 320, 320], boxes [n, MAX_BOXES, 4] in their pixels, scores [n, MAX_BOXES, classes].

    A score is 1 for what people marked, the teacher's own where only it saw something, and 0 for the
    classes of a box that it does not show and for unused places.
    """

    def make() -> dict[str, np.ndarray]:
        rows = [
            *_marked(data / "animals-det", "instances_train.json"),
            *_marked(data / "coco-train128", "instances.json"),
        ]
        rows += [(path, np.zeros((0, 5), np.float32)) for path in outlier_files(data, held_out=False)]
        seen = detect_with_teacher(teacher, [path for path, _ in rows])
        images, boxes, scores = [], [], []
        for (path, marked), taught in zip(rows, seen, strict=True):
            picture = Image.open(path).convert("RGB")
            scale = CANVAS / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            canvas = Image.new("RGB", (CANVAS, CANVAS), (PAD,) * 3)
            canvas.paste(picture.resize(size, Image.Resampling.BILINEAR))
            images.append(np.asarray(canvas).transpose(2, 0, 1))
            corners, soft = merge_boxes(marked, taught)
            boxes.append(corners * scale)
            scores.append(soft)
        return {"images": np.stack(images), "boxes": np.stack(boxes), "scores": np.stack(scores)}

    arrays = cached(runs / "detection", make)
    return arrays["images"], arrays["boxes"], arrays["scores"]


def _marked(folder: Path, file: str) -> Iterable[tuple[Path, np.ndarray]]:
    """Of each picture: its path, and boxes [n, 5] of x1, y1, x2, y2, class."""
    listing = json.loads((folder / file).read_text())
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in listing["images"]}
    for note in listing["annotations"]:
        if note["category_id"] in COCO_IDS and not note.get("iscrowd"):
            x, y, width, height = note["bbox"]
            boxes[note["image_id"]].append([x, y, x + width, y + height, COCO_IDS[note["category_id"]]])
    for image in listing["images"]:
        found = np.array(boxes[image["id"]], np.float32).reshape(-1, 5)
        yield folder / "images" / image["file_name"], found


def detect_with_teacher(file: Path, paths: list[Path]) -> list[np.ndarray]:
    """What NanoDet-Plus-416 sees: for each picture [n, 6] of x1, y1, x2, y2, score, class of ours."""
    import onnxruntime

    from smol.models import load_catalog
    from smol.vision import HEADS, Preprocessor, decode, suppress

    _, variant = load_catalog().find("detect", "nanodet-plus-m:416")
    prepare = Preprocessor(**{name: getattr(variant.input, name) for name in variant.input.__struct_fields__})
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = max(1, torch.get_num_threads())
    session = onnxruntime.InferenceSession(file, settings)
    seen = []
    for path in paths:
        tensor, placement = prepare(decode(path.read_bytes()))
        (output,) = session.run(None, {session.get_inputs()[0].name: tensor})
        found = suppress(HEADS["nanodet_plus"](output, 416, 416, 0.25), 0.6, 40)
        corners = placement.to_picture(found.corners)
        rows = [
            [*corner, score, COCO_INDICES[int(kind)]]
            for corner, score, kind in zip(corners, found.scores, found.classes, strict=True)
            if int(kind) in COCO_INDICES
        ]
        seen.append(np.array(rows, np.float32).reshape(-1, 6))
    return seen


def merge_boxes(marked: np.ndarray, taught: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marked boxes [n, 5] first, then those of the teacher [m, 6] that overlap none of them by half."""
    corners = np.zeros((MAX_BOXES, 4), np.float32)
    scores = np.zeros((MAX_BOXES, len(DETECT_CLASSES)), np.float32)
    count = min(len(marked), MAX_BOXES)
    corners[:count] = marked[:count, :4]
    scores[np.arange(count), marked[:count, 4].astype(int)] = 1.0
    for x1, y1, x2, y2, score, kind in taught:
        box = np.array([x1, y1, x2, y2])
        low = np.maximum(corners[:count, :2], box[:2])
        high = np.minimum(corners[:count, 2:], box[2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        area = (corners[:count, 2:] - corners[:count, :2]).prod(axis=1)
        overlap = shared / (area + (x2 - x1) * (y2 - y1) - shared)
        if count < MAX_BOXES and not (overlap > 0.5).any():
            corners[count] = box
            scores[count, int(kind)] = score
            count += 1
    return corners, scores


def augment(
    images: Tensor, boxes: Tensor, scores: Tensor, side: int, mosaic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of pictures [b, 3, 320, 320] cut, scaled, mirrored, coloured: float [b, 3, side, side] of 0 to 255.

    With `mosaic`, each result shows four pictures: b must be a multiple of four, and the result has b / 4.
    """
    if not mosaic:
        images, boxes = warp(images, boxes, side)
    else:
        images, boxes = warp(images, boxes, side // 2)
        half = side // 2
        count = len(images) // 4
        shift = torch.tensor([[0, 0], [half, 0], [0, half], [half, half]]).repeat(1, 2).float()
        boxes = (boxes.view(count, 4, -1, 4) + shift[None, :, None]).view(count, -1, 4)
        scores = scores.reshape(count, -1, scores.shape[-1])
        tiles = images.view(count, 2, 2, 3, half, half)
        images = tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, side, side)
    large_enough = (boxes[..., 2:] - boxes[..., :2] > 3).all(dim=2, keepdim=True)
    return recolour(images), boxes, scores * large_enough


def warp(images: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """A random scale, place and aspect, half of them mirrored; boxes are clipped, lost ones have no size."""
    count = len(images)
    zoom = torch.empty(count).uniform_(-0.45, 0.5).exp()  # Of the picture, against its size in the output.
    stretch = torch.empty(count).uniform_(-0.15, 0.15).exp()
    extent = torch.stack((1 / (zoom * stretch), stretch / zoom), dim=1)  # Of the view, in canvases [b, 2].
    slack = 1 - extent
    centre = (torch.rand(count, 2) - 0.5) * slack  # Of the view, from the canvas's.
    sign = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = extent[:, 0] * sign, extent[:, 1]
    matrix[:, :, 2] = centre * 2
    grid = nn.functional.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    moved = nn.functional.grid_sample(images.float() - PAD, grid, align_corners=False) + PAD
    # Canvas pixel -> view: x_view = ((x / 320 - 0.5 - centre) / (extent * sign) + 0.5) * side.
    scale = extent.clone()
    scale[:, 0] *= sign
    corners = boxes.view(count, -1, 2, 2) / CANVAS - 0.5
    placed = ((corners - centre[:, None, None]) / scale[:, None, None] + 0.5) * side
    full = torch.cat((placed.amin(dim=2), placed.amax(dim=2)), dim=2)
    clipped = full.clamp(0, side)
    before = (full[..., 2:] - full[..., :2]).prod(dim=2)
    after = (clipped[..., 2:] - clipped[..., :2]).prod(dim=2)
    return moved, clipped * (after > 0.25 * before)[..., None]


def recolour(images: Tensor) -> Tensor:
    """Brightness, contrast, saturation and tint of each picture, by a little."""
    count = len(images)
    grey = images.mean(dim=1, keepdim=True)
    saturation = torch.empty(count, 1, 1, 1).uniform_(0.4, 1.5)
    contrast = torch.empty(count, 3, 1, 1).uniform_(0.9, 1.1) * torch.empty(count, 1, 1, 1).uniform_(0.7, 1.35)
    light = torch.empty(count, 1, 1, 1).uniform_(-30, 30)
    return (((grey + (images - grey) * saturation) - 128) * contrast + 128 + light).clamp(0, 255)
