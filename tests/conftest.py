"""What every test gets: `async def` tests, and a check that it leaves nothing behind.

A test fails that leaves a task, an error nobody looked at in the event loop, a child process (also one
whose parent died: this process adopts them) or an open descriptor. Descriptors and children of
fixtures with a wider scope were there before the test, and stay out of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_PATIENCE_SECONDS = 2.0
"""How long a process that was told to end, or a descriptor of it, has to be gone."""
_PR_SET_CHILD_SUBREAPER = 36


def pytest_configure(config: pytest.Config) -> None:
    # New examples are for those who can look at them; a run that decides gets the same ones each time.
    hypothesis.settings.register_profile("calm", deadline=None)
    hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("repeatable" if os.environ.get("CI") else "calm")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run an `async def` test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(_leave_no_task(pyfuncitem.obj(**arguments)))
    return True


async def _leave_no_task(test: Coroutine[Any, Any, None]) -> None:
    failures: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: failures.append(f"{context.get('message')}: {context.get('exception')!r}")
    )
    await test
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=0.5)
    if tasks:
        pytest.fail("the test left tasks behind: " + ", ".join(map(repr, tasks)))
    if failures:
        pytest.fail("the event loop met errors that nobody looked at: " + "; ".join(failures))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and pictures; a test that needs it is skipped where there is none."""
    folder = Path(os.environ.get("SMOL_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "models").is_dir():
        pytest.skip(f"no real models in {folder}; set SMOL_SHARED to the folder that has them")
    return folder


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium as the distribution installs it; skips where it, or Playwright, is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    descriptors, children = _descriptors(), _children()
    yield
    if not _leaked(descriptors, children):
        return
    time.sleep(0.01)  # Most that is still there is about to go, and to collect garbage takes longer.
    if not _leaked(descriptors, children):
        return
    gc.collect()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (leaked := _leaked(descriptors, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in _children() - children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if leaked:
        pytest.fail("the test left behind: " + ", ".join(leaked))


def _leaked(descriptors: dict[int, str], children: set[int]) -> list[str]:
    found = [
        f"descriptor {number} ({target})"
        for number, target in _descriptors().items()
        if descriptors.get(number) != target and not target.startswith(("/dev/", "/proc/"))
    ]
    for pid in _children() - children:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                found.append(f"process {pid} ({_command(pid)})")
    return found


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError):  # No /proc here: descriptors are not checked.
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, path.read_text().split()))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone"
