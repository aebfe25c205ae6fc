"""Suites that others wrote, each in an environment of its own, made once and kept beside this interpreter.

Nothing of them is installed where Smol is: a suite may want other versions of what Smol uses. A suite that
can't be installed (no npm, no registry) skips its tests, and says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["NODE", "NODE_PACKAGE", "node_suite", "python_suite", "run"]

CACHE = Path(os.environ.get("SMOL_CONFORMANCE_CACHE") or Path(sys.prefix) / "conformance")
INSTALL_SECONDS = 900
_DONE = "installed.json"
_PLATFORM = {"linux-x86_64": "linux-x64", "linux-aarch64": "linux-arm64"}.get(sysconfig.get_platform(), "none")
NODE_PACKAGE = f"node-{_PLATFORM}"
"""Node.js itself as a package of npm: suites want a newer one than distributions have."""
NODE = Path("node_modules") / NODE_PACKAGE / "bin" / "node"


def node_suite(*packages: str) -> Path:
    """A folder with these packages of npm in its node_modules. Skips where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    if NODE_PACKAGE in " ".join(packages) and _PLATFORM == "none":
        pytest.skip(f"npm has no Node.js for {sysconfig.get_platform()}")
    folder = _folder("node", packages)
    if not (folder / _DONE).exists():
        (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
        _install([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], folder)
        (folder / _DONE).write_text(json.dumps(packages))
    return folder


def python_suite(*requirements: str) -> Path:
    """The interpreter of a virtual environment with these requirements."""
    folder = _folder("python", requirements)
    python = folder / "bin" / "python"
    if not (folder / _DONE).exists():
        _install([sys.executable, "-m", "venv", "--clear", str(folder)], folder)
        _install([str(python), "-m", "pip", "install", "--quiet", *requirements], folder)
        (folder / _DONE).write_text(json.dumps(requirements))
    return python


def run(
    command: Sequence[str | Path], seconds: float, folder: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a suite to its end; what it said is in the result."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        timeout=seconds,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _folder(kind: str, packages: Sequence[str]) -> Path:
    name = hashlib.sha256(json.dumps([sys.version_info[:2], *packages]).encode()).hexdigest()[:12]
    folder = CACHE / f"{kind}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _install(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, timeout=INSTALL_SECONDS, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        said = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
        pytest.skip(f"{command[0]} could not install {folder.name}: {said}")
