from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smol.models import MIRROR_VARIABLE
from smol.sdk import Attachment, Context
from smol.sdk.context import Environment, Link

MakeContext = Callable[..., Context]


class RecordingLink(Link):
    """Remembers the progress that was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []

    def progress(self, call_id: int, fraction: float, message: str) -> None:
        self.told.append((fraction, message))


@pytest.fixture
def link() -> RecordingLink:
    return RecordingLink()


@pytest.fixture
def make_context(tmp_path: Path, link: RecordingLink) -> MakeContext:
    def make(unit: str, **settings: Any) -> Context:
        return Context(
            Environment(
                unit=unit,
                log=logging.getLogger(f"smol.units.{unit}"),
                data_dir=tmp_path / "data" / "units" / unit,
                cache_dir=tmp_path / "cache",
                settings=settings,
                link=link,
            )
        )

    return make


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real models as a mirror."""
    monkeypatch.setenv(MIRROR_VARIABLE, str(shared / "models"))
    return shared / "models"


@pytest.fixture
def photo(shared: Path) -> Attachment:
    """A living room with chairs and a television, 640 x 426."""
    return Attachment.from_file(sorted((shared / "datasets" / "coco-val64" / "images").iterdir())[0])
