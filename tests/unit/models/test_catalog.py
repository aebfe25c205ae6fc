from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from smol.errors import DataLoss, InvalidArgument, NotFound
from smol.models import Store, load_catalog
from smol.models import catalog as catalog_module
from smol.models.catalog import parse_catalog, read_labels

TEXT = Path(catalog_module.__file__).with_name("catalog.toml").read_text(encoding="utf-8")


EMBEDDED = Path(catalog_module.__file__).with_name("embedded")


def test_every_detector_has_labels_of_coco_and_each_task_a_model() -> None:
    catalog = load_catalog()
    assert {model.task for model in catalog.model} == {"classify", "detect"}
    coco = catalog.labels["coco80"].names
    assert len(set(coco)) == 80
    for model, _ in catalog.variants("detect"):
        assert set(catalog.labels[model.labels].names) <= set(coco)


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_the_last_model_of_each_task_comes_with_the_package_and_is_copied_nowhere(
    task: str, tmp_path: Path
) -> None:
    *_, (model, variant) = load_catalog().variants(task)
    assert model.name == f"smol-{task}"
    assert Store(tmp_path / "unused").obtain(variant) == EMBEDDED / variant.file
    assert not (tmp_path / "unused").exists()


def test_embedded_files_are_small_and_each_model_has_a_card() -> None:
    embedded = [(model, v) for model in load_catalog().model for v in model.variant if v.embedded]
    assert {variant.file for _, variant in embedded} == {path.name for path in EMBEDDED.glob("*.onnx")}
    assert sum({variant.file: variant.bytes for _, variant in embedded}.values()) <= 3 * 2**20
    for model, _ in embedded:
        card = (EMBEDDED / f"{model.name}.md").read_text(encoding="utf-8")
        first, *rest = card.splitlines()
        assert first.endswith(".") and not first.startswith("#")
        for heading in ("Data", "Training", "Accuracy", "Weaknesses", "Intended use"):
            assert f"## {heading}" in rest


def test_every_head_fits_the_task() -> None:
    for model in load_catalog().model:
        assert {variant.output.head == "softmax" for variant in model.variant} == {model.task == "classify"}


def test_a_model_is_found_by_name_and_by_variant() -> None:
    catalog = load_catalog()
    model, variant = catalog.find("detect", "nanodet-plus-m")
    assert (model.name, variant.name) == ("nanodet-plus-m", "416")
    assert catalog.find("detect", "nanodet-plus-m:320-int8")[1].file == "nanodet_plus_m_320_int8.onnx"


@pytest.mark.parametrize("name", ["nanodet-plus", "nanodet-plus-m:417", ""])
def test_an_unknown_model_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(NotFound, match=r"known: nanodet-plus-m:416, "):
        load_catalog().find("detect", name)


def test_a_model_for_something_else_is_told_with_the_command_that_it_is_for() -> None:
    with pytest.raises(
        InvalidArgument, match=r"'mobilenet-v2' is there to classify, not to detect; run: smol classify"
    ):
        load_catalog().find("detect", "mobilenet-v2")


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(NotFound, match="did you mean 'yolox-nano'"):
        load_catalog().find("detect", "yolox-nan")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('task = "detect"', 'task = "paint"', "paint"),
        ("bytes = ", "size = ", "size"),
        ('sha256 = "9a25', 'sha256 = "XYZ5', "sha256"),
        ('labels = "coco80"', 'labels = "coco81"', "coco81"),
        ('file = "nanodet_plus_m_416_int8.onnx"', 'file = "nanodet_plus_m_416.onnx"', "twice"),
        ('file = "nanodet_plus_m_416.onnx"', 'file = "../nanodet_plus_m_416.onnx"', "file"),
        ("[[model]]", "[[model", "damaged"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in TEXT
    with pytest.raises(DataLoss, match=complaint):
        parse_catalog(TEXT.replace(old, new, 1))


def test_mirrors_are_encrypted_in_transit() -> None:
    for asset in load_catalog().assets():
        assert all(url.startswith("https://") for url in asset.mirrors)


def test_the_catalog_is_the_files_that_were_measured(shared: Path) -> None:
    sums = {
        line.split()[1].rpartition("/")[2]: line.split()[0]
        for line in (shared / "models" / "SHA256SUMS").read_text().splitlines()
    }
    for asset in load_catalog().assets():
        if asset.file in sums:
            path = next((shared / "models").rglob(asset.file))
            assert (asset.sha256, asset.bytes) == (sums[asset.file], path.stat().st_size)
    assert (
        tomllib.loads(TEXT)["labels"]["coco80"]["names"]
        == ((shared / "models" / "coco80_labels.txt").read_text().split("\n")[:80])
    )


def test_labels_are_read_by_index(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("index,name\n1,cat\n0,dog\n")
    assert read_labels(path) == ("dog", "cat")


@pytest.mark.parametrize("text", ["index,label\n0,dog\n", "index,name\nzero,dog\n", "index,name\n0\n1,\n\xff"])
def test_a_damaged_label_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataLoss, match=r"labels\.csv"):
        read_labels(path)
