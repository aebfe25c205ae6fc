"""Fixtures that tests of several packages use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and pictures; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("SMOL_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "models").is_dir():
        pytest.skip(f"no real models in {folder}; set SMOL_SHARED to the folder that has them")
    return folder
