from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smol.cli.quantization import quantize
from smol.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from smol.models import Library, Model, Store, Variant


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "models")


@pytest.fixture
def store(tmp_path: Path, library: Library) -> Store:
    return Store(tmp_path / "cache", imported=library.directory)


@pytest.fixture
def embedded(library: Library) -> tuple[Model, Variant]:
    return library.catalog().find("classify", "smol-classify")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    directory = tmp_path / "pictures"
    directory.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        small = Image.fromarray(random.integers(0, 255, (4, 4, 3), np.uint8))
        small.resize((64, 64)).save(directory / f"{number}.png")
    (directory / "broken.png").write_bytes(b"no picture")
    return directory


def test_an_int8_variant_is_smaller_measured_and_the_last_of_its_model(
    embedded: tuple[Model, Variant], pictures: Path, library: Library, store: Store
) -> None:
    model, variant = embedded
    before, after = quantize(model, variant, pictures, library, store, min_agreement=0.0)
    assert (before.variant, before.agreement, after.variant) == (variant.name, 1.0, f"{variant.name}-int8")
    assert after.size_bytes < 0.7 * before.size_bytes
    assert 0 <= after.agreement <= 1
    assert after.median_ms > 0
    found, made = library.catalog().find("classify", f"{model.name}:{variant.name}-int8")
    assert found.variant[-1] == made
    assert store.obtain(made).stat().st_size == after.size_bytes
    with pytest.raises(FailedPrecondition, match="int8 already"):
        quantize(model, made, pictures, library, store)
    with pytest.raises(AlreadyExists, match="smol models remove"):
        quantize(found, variant, pictures, library, store)


def test_a_variant_that_agrees_too_little_is_not_registered(
    embedded: tuple[Model, Variant], pictures: Path, library: Library, store: Store
) -> None:
    model, variant = embedded
    more_than_any = 1.01
    with pytest.raises(FailedPrecondition, match=r"was not registered: on 6 pictures it agrees") as refused:
        quantize(model, variant, pictures, library, store, min_agreement=more_than_any)
    for figure in ("101.0% are asked for", "ms became", "of memory became", "--min-agreement"):
        assert figure in refused.value.message
    assert not list(library.directory.glob("*"))


def test_without_onnx_it_says_what_to_install(
    embedded: tuple[Model, Variant],
    pictures: Path,
    library: Library,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match=r"needs the package 'onnx': pip install smol\[quantize\]"):
        quantize(*embedded, pictures, library, store)


def test_pictures_that_can_not_be_used_are_told(
    embedded: tuple[Model, Variant], tmp_path: Path, library: Library, store: Store
) -> None:
    with pytest.raises(NotFound, match="no directory"):
        quantize(*embedded, tmp_path / "nowhere", library, store)
    (tmp_path / "few").mkdir()
    with pytest.raises(InvalidArgument, match=r"0 pictures that can be read; give at least 8$"):
        quantize(*embedded, tmp_path / "few", library, store)
    (tmp_path / "few" / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidArgument, match=r"1 could not be read, the first: broken\.jpg"):
        quantize(*embedded, tmp_path / "few", library, store)
    assert not library.directory.exists()
