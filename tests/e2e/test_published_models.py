from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra")

from smol.cli.importing import import_published  # noqa: E402
from smol.errors import AlreadyExists, DataLoss, FailedPrecondition  # noqa: E402
from smol.models import Library, Store  # noqa: E402
from smol.models.mobilenet import SsdLite  # noqa: E402
from smol.models.published import PUBLISHED, Published  # noqa: E402

NAME = "ssdlite-mobilenet-v3"


def publish(content: bytes, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Serve a file in place of the real weights, under the hash that it has."""
    published = PUBLISHED[NAME]._replace(file=f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    (directory / published.file).write_bytes(content)
    monkeypatch.setitem(PUBLISHED, NAME, published)
    return published


def saved(weights: object) -> bytes:
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


@pytest.mark.timeout(240)
def test_published_weights_become_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(saved(SsdLite().state_dict()), tmp_path, monkeypatch)
    library, store = Library(tmp_path / "models"), Store(tmp_path / "cache", mirror=str(tmp_path))
    model, variant = import_published(NAME, library, store)
    assert (model.name, model.task, variant.accuracy) == (NAME, "detect", "not measured by us")
    assert (variant.output.head, variant.output.max_overlap, variant.input.fit) == ("decoded", 0.55, "stretch")
    assert Store(tmp_path / "cache", imported=library.directory).obtain(variant).stat().st_size == variant.bytes
    with pytest.raises(AlreadyExists):
        import_published(NAME, library, store)


class Boom:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("/tmp/smol-was-unpickled"),)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [({"conv.weight": torch.zeros(1)}, "do not fit the network"), (Boom(), "do not fit the network")],
    ids=["other weights", "code"],
)
def test_weights_of_something_else_are_refused(
    weights: object, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(saved(weights), tmp_path, monkeypatch)
    with pytest.raises(DataLoss, match=complaint):
        import_published(NAME, Library(tmp_path / "models"), Store(tmp_path / "cache", mirror=str(tmp_path)))
    assert not (tmp_path / "models").exists()
    assert not Path("/tmp/smol-was-unpickled").exists()


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(b"weights", tmp_path, monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install smol\[torch\]"):
        import_published(NAME, Library(tmp_path / "models"), Store(tmp_path / "cache", mirror=str(tmp_path)))
