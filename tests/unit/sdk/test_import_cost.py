"""What importing costs, seen from a fresh interpreter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

HEAVY = ("numpy", "onnxruntime", "torch", "sqlite3", "PIL", "http.client", "urllib.request", "starlette",
         "uvicorn", "httpx", "aiohttp", "requests")  # fmt: skip


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def heavy(modules: set[str]) -> set[str]:
    return {name for name in HEAVY if name in modules}


def test_importing_the_sdk_loads_nothing_heavy_and_no_event_loop() -> None:
    modules = loaded_by("smol.sdk")
    assert "smol.sdk.unit" in modules
    assert not heavy(modules)
    assert not modules & {"asyncio", "uvloop", "smol.transport", "socket", "ssl"}


@pytest.mark.parametrize("module", ["smol.sdk.worker", "smol.transport", "smol.protocol"])
def test_a_worker_without_units_loads_nothing_heavy(module: str) -> None:
    assert not heavy(loaded_by(module))


def test_the_protocol_knows_no_event_loop() -> None:
    assert not loaded_by("smol.protocol") & {"asyncio", "socket"}


@pytest.mark.skipif(importlib.util.find_spec("smol.client") is None, reason="there is no smol.client yet")
def test_importing_the_client_loads_nothing_heavy() -> None:
    assert not heavy(loaded_by("smol.client"))
