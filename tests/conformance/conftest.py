"""Smol as others see it: their suites and clients against one running Smol. `make conformance` runs these.

They need what is not on every machine (npm, registries, a browser), and are skipped where it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import smol

HERE = Path(__file__).parent
SECONDS = 600
"""Suites may have to be installed first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Smol that serves all suites, with the operations that some ask for."""
    home = tmp_path_factory.mktemp("smol")
    table = home / "smol.toml"
    table.write_text('[units.mcp]\nallow = ["test.*"]\n')
    settings = {
        "SMOL_HOME": str(home),
        "SMOL_CONFIG": str(table),
        "SMOL_GATEWAY_LISTEN": "127.0.0.1:0",
        "SMOL_HOST_UNIT_DIRECTORIES": str(HERE / "units"),
    }
    with smol.local(settings) as client:
        yield str(client.gateway.address()["url"])
