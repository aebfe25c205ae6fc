from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from smol.errors import AlreadyExists, DataLoss, NotFound
from smol.models import Input, Labels, Library, Model, Output, Store, Variant, load_catalog

CONTENT = b"weights"


def model_of(name: str = "mine", variant: str = "8", labels: str = "mine-labels") -> Model:
    form = Variant(
        name=variant,
        file=f"{name}-{variant}.onnx",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
        imported=True,
        reserved_bytes=2**20,
        accuracy="not measured",
        input=Input(width=8, height=8, fit="stretch", channels="rgb"),
        output=Output(head="softmax"),
    )
    return Model(name=name, task="classify", licence="MIT", source="imported", labels=labels, variant=(form,))


LABELS = {"mine-labels": Labels(names=("cat", "dog"))}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(CONTENT)
    return path


def test_a_model_that_was_added_is_known_to_a_library_that_was_open_already(tmp_path: Path, source: Path) -> None:
    reader, writer = Library(tmp_path / "models"), Library(tmp_path / "models")
    assert reader.catalog() == load_catalog()
    writer.add(model_of(), source, LABELS)
    model, variant = reader.catalog().find("classify", "mine")
    assert (model.name, reader.catalog().labels[model.labels].names) == ("mine", ("cat", "dog"))
    store = Store(tmp_path / "cache", imported=reader.directory)
    assert store.obtain(variant).read_bytes() == CONTENT
    assert reader.catalog().model[:-1] == load_catalog().model


def test_a_variant_joins_the_model_of_its_name(tmp_path: Path, source: Path) -> None:
    library = Library(tmp_path / "models")
    library.add(model_of(), source, LABELS)
    library.add(model_of(variant="4"), source, LABELS)
    library.add(model_of("mobilenet-v2", "tiny", "imagenet1000"), source)
    names = [f"{model.name}:{variant.name}" for model, variant in library.catalog().variants("classify")]
    assert names[:3] == ["mobilenet-v2:1.0-224", "mobilenet-v2:1.0-224-int8", "mobilenet-v2:tiny"]
    assert names[-2:] == ["mine:8", "mine:4"]


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (model_of(), LABELS),
        (model_of("mobilenet-v2", "1.0-224", "imagenet1000"), {}),
        (model_of("mobilenet-v2", "tiny"), LABELS),
        (model_of(variant="4"), {"mine-labels": Labels(names=("bird", "fish"))}),
    ],
    ids=["again", "of the package", "other labels", "labels changed"],
)
def test_what_is_there_is_not_replaced(
    model: Model, labels: dict[str, Labels], tmp_path: Path, source: Path
) -> None:
    library = Library(tmp_path / "models")
    library.add(model_of(), source, LABELS)
    before = library.catalog()
    with pytest.raises(AlreadyExists, match="--name"):
        library.add(model, source, labels)
    assert library.catalog() == before


def test_a_removed_model_is_gone_with_its_file(tmp_path: Path, source: Path) -> None:
    library = Library(tmp_path / "models")
    library.add(model_of(), source, LABELS)
    library.add(model_of(variant="4"), source, LABELS)
    assert library.remove("mine:8") == ["mine:8"]
    assert [variant.name for _, variant in library.catalog().variants("classify")][-1] == "4"
    assert library.remove("mine") == ["mine:4"]
    assert library.catalog() == load_catalog()
    assert not list(library.directory.glob("*.onnx"))


@pytest.mark.parametrize(("name", "complaint"), [("mobilenet-v2", "comes with Smol"), ("mine", "is unknown")])
def test_only_what_was_imported_can_be_removed(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=complaint):
        Library(tmp_path / "models").remove(name)


def test_a_damaged_catalog_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text('{"model": 1}')
    with pytest.raises(DataLoss, match=r"catalog\.json is damaged"):
        Library(tmp_path).catalog()


def test_a_changed_file_is_refused(tmp_path: Path, source: Path) -> None:
    library = Library(tmp_path / "models")
    library.add(model_of(), source, LABELS)
    _, variant = library.catalog().find("classify", "mine")
    (library.directory / variant.file).write_bytes(b"other")
    with pytest.raises(DataLoss, match="import it again"):
        Store(tmp_path / "cache", imported=library.directory).obtain(variant)
