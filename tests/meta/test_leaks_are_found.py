"""The fixture that fails tests which leave something behind does so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TESTS = """
import asyncio, os, subprocess, sys

KEPT = []

async def test_task():
    async def never():
        try:
            await asyncio.sleep(3600)
        finally:
            pass
    KEPT.append(asyncio.ensure_future(never()))
    await asyncio.sleep(0)

async def test_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

def test_descriptor():
    KEPT.append(os.open(__file__, os.O_RDONLY))

def test_child():
    KEPT.append(subprocess.Popen(["sleep", "60"]))

def test_orphan():
    subprocess.run([sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '60'])"], check=True)

def test_clean():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    subprocess.run(["true"], check=True)

async def test_clean_task():
    await asyncio.ensure_future(asyncio.sleep(0))
"""


def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    text = CONFTEST.read_text(encoding="utf-8").replace("_PATIENCE_SECONDS = 2.0", "_PATIENCE_SECONDS = 0.05")
    (tmp_path / "conftest.py").write_text(text, encoding="utf-8")
    (tmp_path / "test_leaks.py").write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    for name in ("test_task", "test_callback"):
        assert f"FAILED test_leaks.py::{name}" in done.stdout, done.stdout
    for name in ("test_descriptor", "test_child", "test_orphan"):
        assert f"ERROR test_leaks.py::{name}" in done.stdout, done.stdout
    assert "2 failed, 5 passed, 3 errors" in done.stdout
