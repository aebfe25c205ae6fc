"""Virtual environments for units whose requirements the base environment lacks.

One environment per set of requirements, shared by the units with that set:

    <directory>/<key>/            the environment; bin/python runs the unit
    <directory>/<key>/smol.json   the stamp, written last: without it the environment is not finished
    <directory>/<key>.lock        locked while it is made or removed

The packages of the base environment, Smol's among them, are visible in it behind its own. Covers
making, checking and removing; running units is the launcher's.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import site
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import smol
from smol.errors import FailedPrecondition, InvalidArgument
from smol.host.installer import Progress, run
from smol.host.locks import locked, remove
from smol.host.requirements import missing, normalise

__all__ = ["STAMP", "Environments", "check", "clean_environ", "last_use", "silent"]

STAMP = "smol.json"
CHECK_SECONDS = 60.0
MONTH_SECONDS = 30 * 86_400.0

CHECK = """
import sys
from smol.host.requirements import missing
for each in missing(sys.argv[1:]):
    print("lacks", each)
"""


def silent(line: str) -> None:
    """Progress that nobody follows."""


async def check(python: Path, requirements: Sequence[str]) -> None:
    """Prove that the interpreter starts, finds Smol, and has packages that meet the requirements.

    Raises `FailedPrecondition` saying what is not met.
    """
    lines = await run(
        [str(python), "-P", "-c", CHECK, *requirements],
        cwd=python.parent, environ=clean_environ(os.environ), timeout_seconds=CHECK_SECONDS, progress=silent,
    )  # fmt: skip
    unmet = [line.removeprefix("lacks ") for line in lines if line.startswith("lacks ")]
    if unmet:
        raise FailedPrecondition(f"{python} lacks {', '.join(unmet)}", missing=unmet)


class Environments:
    """The environments in one directory, which other processes may use at the same time.

    installer: `auto` takes uv if it is on the PATH, else venv and pip.
    timeout_seconds: for making one environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        installer: Literal["auto", "uv", "pip"] = "auto",
        timeout_seconds: float = 1800.0,
    ) -> None:
        self._directory = directory.absolute()
        self._installer = installer
        self._timeout_seconds = timeout_seconds

    async def ensure(self, requirements: Sequence[str], progress: Progress = silent) -> Path:
        """The interpreter that meets the requirements: this one, or that of an environment made for them.

        An environment that is there is checked and, if it no longer meets them, made again. Whoever
        comes while another makes it, in this process or in another, waits.

        progress: called with lines for people.
        Raises `InvalidArgument` for what is no requirement; `FailedPrecondition` or `Unavailable` with
        the installer's last lines. If cancelled, the installer is killed.
        """
        if not requirements:
            return Path(sys.executable)
        wanted = await asyncio.to_thread(normalise, requirements)
        lacking = await asyncio.to_thread(missing, wanted)
        if not lacking:
            return Path(sys.executable)
        home = self._directory / _key(wanted)
        if await _is_sound(home, wanted):
            return _python(home)
        self._directory.mkdir(parents=True, exist_ok=True)
        async with locked(home, lambda: progress(f"waiting for another process to make {home}")) as lock:
            if not await _is_sound(home, wanted):
                await self._make(home, wanted, lacking, lock, progress)
        return _python(home)

    async def prune(self, used: Iterable[Sequence[str]], *, unused_seconds: float = MONTH_SECONDS) -> list[Path]:
        """Remove environments; returns those removed.

        Kept are those for a requirement set in `used`, those that were asked for within
        `unused_seconds`, and those being made. Unfinished ones have no age.
        """
        keep = set()
        for requirements in used:
            with suppress(InvalidArgument):  # of what is no requirement, no environment was made
                keep.add(_key(normalise(requirements)))
        oldest = time.time() - unused_seconds
        removed = []
        for home in sorted(self._directory.glob("*/")):
            if home.name not in keep and await remove(home, lambda each: last_use(each) <= oldest):
                removed.append(home)
        return removed

    async def _make(
        self, home: Path, wanted: Sequence[str], lacking: Sequence[str], lock: int | None, progress: Progress
    ) -> None:
        uv = shutil.which("uv") if self._installer != "pip" else None
        if uv is None and self._installer == "uv":
            raise FailedPrecondition("uv is not on the PATH; install it, or use pip")
        create, install = _commands(home, uv)
        held = () if lock is None else (lock,)
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds

        async def step(command: Sequence[str]) -> None:
            remaining = deadline - asyncio.get_running_loop().time()
            await run(
                command, cwd=self._directory, environ=clean_environ(os.environ), held=held,
                timeout_seconds=max(remaining, 0), progress=progress,
            )  # fmt: skip

        # Environments cannot be moved, so that this one is made in place and its stamp says when it is whole.
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        try:
            progress(f"making an environment with {'uv' if uv else 'pip'}")
            await step(create)
            _show_base(home)
            progress(f"installing {', '.join(lacking)}")
            await step([*install, *lacking])
            await check(_python(home), wanted)
            _stamp(home, wanted, "uv" if uv else "pip")
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
            raise
        progress("the environment is ready")


def _commands(home: Path, uv: str | None) -> tuple[list[str], list[str]]:
    """How to create an environment, and how to install what is then appended."""
    if uv is not None:
        return (
            [uv, "venv", "--no-project", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--python", str(_python(home))],
        )
    create = [sys.executable, "-P", "-m", "venv", str(home)]
    if importlib.util.find_spec("pip"):
        create.append("--without-pip")  # the base's is visible in the environment, and a copy takes seconds
    pip = [str(_python(home)), "-P", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # Few retries: offline is a usual state, and whoever waits should hear of it soon.
    return create, [*pip, "--progress-bar=off", "--retries=1"]


def _key(wanted: Sequence[str]) -> str:
    """A name for the environment of a normalised set: of its packages, this Python and this base."""
    facts = [list(wanted), sys.implementation.cache_tag, platform.machine(), sys.prefix]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would lead a foreign interpreter to this one's packages."""
    return {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _show_base(home: Path) -> None:
    """Append the base's packages to the environment's path by a .pth file; the environment's come first.

    `site.addsitedir` also reads the .pth files in the base, which editable installs consist of. The
    file's name sorts last, so that it comes after the environment's own.
    """
    bases = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    lines = [f"import site; site.addsitedir({base!r})" for base in bases if Path(base).is_dir()]
    lines.append(str(Path(smol.__file__).parents[1]))
    for packages in home.glob("lib/python*/site-packages"):
        (packages / "zz_smol_base.pth").write_text("\n".join(lines) + "\n")


def _stamp(home: Path, wanted: Sequence[str], installer: str) -> None:
    stamp = {"requirements": list(wanted), "python": platform.python_version(), "installer": installer}
    temporary = home / (STAMP + ".new")
    temporary.write_text(json.dumps(stamp, indent=1))
    temporary.replace(home / STAMP)


async def _is_sound(home: Path, wanted: Sequence[str]) -> bool:
    """Whether the environment is finished and meets the requirements; if so, notes that it was used."""
    if not (home / STAMP).exists():
        return False
    try:
        await check(_python(home), wanted)
        os.utime(home / STAMP)
    except (FailedPrecondition, FileNotFoundError):
        return False
    return True


def last_use(home: Path) -> float:
    """Unix time; -inf if the environment is unfinished."""
    try:
        return (home / STAMP).stat().st_mtime
    except FileNotFoundError:
        return float("-inf")
