from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from smol.errors import DataLoss, Unavailable
from smol.models import Store, load_catalog
from smol.models.published import MAX_WEIGHTS_BYTES, PUBLISHED, fetch_weights

SMALL = PUBLISHED["mobilenet-v3-small"]
CONTENT = b"weights"
OURS = SMALL._replace(file=f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth")


@pytest.fixture
def store(tmp_path: Path, server: Any) -> Store:
    return Store(tmp_path, mirror=server.url)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for outside of this machine."""
    monkeypatch.setattr("smol.models.published._FROM", "http://127.0.0.1:9/")


def test_weights_with_the_hash_of_their_name_are_taken(store: Store, server: Any) -> None:
    server.files["/" + OURS.file] = CONTENT
    assert fetch_weights(OURS, store) == CONTENT


def test_other_weights_are_refused(store: Store, server: Any) -> None:
    server.files["/" + SMALL.file] = CONTENT
    with pytest.raises(DataLoss, match="instead of 047dcff4; it was not taken"):
        fetch_weights(SMALL, store)


def test_a_file_without_end_is_cut_and_refused(store: Store, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smol.models.published.MAX_WEIGHTS_BYTES", len(CONTENT) - 1)
    server.files["/" + OURS.file] = CONTENT
    with pytest.raises(DataLoss):
        fetch_weights(OURS, store)
    assert MAX_WEIGHTS_BYTES > 22 * 10**6  # The largest of the published files.


def test_without_a_source_it_says_what_to_do(store: Store) -> None:
    with pytest.raises(Unavailable, match="Go online, or set SMOL_MODEL_MIRROR"):
        fetch_weights(SMALL, store)


def test_what_is_published_has_labels_in_the_catalog_and_a_name_of_its_own() -> None:
    catalog = load_catalog()
    assert not PUBLISHED.keys() & {model.name for model in catalog.model}
    assert {each.labels for each in PUBLISHED.values()} <= catalog.labels.keys()
    assert all(len(bytes.fromhex(each.hash_prefix)) == 4 for each in PUBLISHED.values())
