"""Real environments, made without a network from a wheel that is written here."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest

import smol
from smol.errors import FailedPrecondition, InvalidArgument, SmolError, Unavailable
from smol.host.environments import Environments, check
from tests.e2e.wheels import write_wheel

INSTALLERS = [
    "pip",
    pytest.param("uv", marks=pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")),
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")


def output(python: Path, code: str) -> str:
    return subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program named uv first on the PATH."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries), prepend=os.pathsep)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("installer", INSTALLERS)
def test_an_environment_has_its_packages_and_behind_them_those_of_the_base(
    tmp_path: Path, installer: Literal["pip", "uv"]
) -> None:
    async def story() -> None:
        wanted = [write_wheel(tmp_path)]
        lines: list[str] = []
        environments = Environments(tmp_path / "environments", installer=installer)
        python = await environments.ensure(wanted, lines.append)
        assert output(python, "import tiny_smol_test as t; print(t.VERSION)") == "1.0"
        assert output(python, "import smol.errors, msgspec; print(msgspec.__file__)") == msgspec.__file__
        assert lines[0] == f"making an environment with {installer}"
        assert any(line.startswith("installing tiny-smol-test") for line in lines)
        assert lines[-1] == "the environment is ready"

        lines.clear()
        assert await environments.ensure([*wanted, "msgspec"]) != python
        assert await environments.ensure(wanted, lines.append) == python
        assert lines == []

    asyncio.run(story())


def test_the_environments_own_packages_go_before_those_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "tiny_smol_test.py").write_text("VERSION = '0.5'")
    (base / "other_smol_test.py").write_text("")
    bases = [str(base), *site.getsitepackages()]
    monkeypatch.setattr(site, "getsitepackages", lambda: bases)

    async def story() -> None:
        python = await Environments(tmp_path / "made", installer="pip").ensure([write_wheel(tmp_path, "2.0")])
        code = "import other_smol_test, tiny_smol_test as t; print(t.VERSION)"
        assert output(python, code) == "2.0"

    asyncio.run(story())


def test_requirements_that_the_base_meets_need_no_environment(tmp_path: Path) -> None:
    python = asyncio.run(Environments(tmp_path / "made").ensure(["msgspec", "absent; sys_platform == 'other'"]))
    assert python == Path(sys.executable)
    assert not (tmp_path / "made").exists()


def test_what_is_no_requirement_never_reaches_an_installer(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="--index-url"):
        asyncio.run(Environments(tmp_path / "made").ensure(["--index-url=http://x.test"]))
    assert not (tmp_path / "made").exists()


def test_of_two_makers_one_makes_and_the_other_waits(tmp_path: Path) -> None:
    async def story() -> None:
        wanted = [write_wheel(tmp_path)]
        lines: list[str] = []
        first, second = (Environments(tmp_path / "made", installer="pip") for _ in range(2))
        pythons = await asyncio.gather(first.ensure(wanted, lines.append), second.ensure(wanted, lines.append))
        assert pythons[0] == pythons[1]
        assert lines.count("the environment is ready") == 1
        assert sum("waiting for another process" in line for line in lines) == 1

    asyncio.run(story())


def test_an_unfinished_or_damaged_environment_is_made_again(tmp_path: Path) -> None:
    async def story() -> None:
        wanted = [write_wheel(tmp_path)]
        environments = Environments(tmp_path / "made", installer="pip")
        python = await environments.ensure(wanted)
        home = python.parents[1]
        for damage in (
            home / "smol.json",
            next(home.glob("lib/python*/site-packages/tiny*.dist-info/METADATA")),
        ):
            damage.unlink()
            lines: list[str] = []
            assert await environments.ensure(wanted, lines.append) == python
            assert lines[-1] == "the environment is ready"
        python.unlink()
        assert await environments.ensure(wanted) == python
        assert output(python, "import tiny_smol_test") == ""

    asyncio.run(story())


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_failed_installation_says_why_and_leaves_nothing(
    tmp_path: Path, installer: Literal["pip", "uv"]
) -> None:
    requirement = write_wheel(tmp_path, requires="surely-absent-smol-dependency>=3")
    with pytest.raises(SmolError, match="surely-absent-smol-dependency") as caught:
        asyncio.run(Environments(tmp_path / "made", installer=installer).ensure([requirement]))
    assert isinstance(caught.value, FailedPrecondition)
    assert caught.value.details["output"]
    assert list((tmp_path / "made").glob("*/")) == []


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo 'dns error: no such host' >&2; exit 2", Unavailable, "dns error"),
        ("echo 'No space left on device'; exit 1", FailedPrecondition, "No space left"),
        ("exit 3", FailedPrecondition, "failed with status 3"),
        ("printf '%0100000d' 7; exit 1", FailedPrecondition, "0000"),
        ("kill -9 $$", FailedPrecondition, "failed with status -9"),
    ],
)
def test_how_an_installer_fails_decides_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type[SmolError], message: str
) -> None:
    fake_uv(tmp_path, monkeypatch, script)
    with pytest.raises(kind, match=message) as caught:
        asyncio.run(Environments(tmp_path / "made").ensure(["absent-smol-test"]))
    assert len(caught.value.message) < 1500


def test_an_installer_that_hangs_is_stopped_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(tmp_path, monkeypatch, f"sleep 600 & echo $$ $! > {tmp_path}/pids; wait")
    with pytest.raises(Unavailable, match="did not finish within 1 s"):
        asyncio.run(Environments(tmp_path / "made", timeout_seconds=1).ensure(["absent-smol-test"]))
    assert_all_gone(tmp_path / "pids")


def test_cancelling_kills_the_installer_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(
        tmp_path,
        monkeypatch,
        f"sleep 600 & echo $$ $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait",
    )
    environments = Environments(tmp_path / "made")

    async def story() -> None:
        maker = asyncio.create_task(environments.ensure(["absent-smol-test"]))
        waiter = asyncio.create_task(environments.ensure(["absent-smol-test"]))
        await until((tmp_path / "pids").exists)
        waiter.cancel()
        maker.cancel()
        results = await asyncio.gather(maker, waiter, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2

    asyncio.run(story())
    assert_all_gone(tmp_path / "pids")
    assert list((tmp_path / "made").glob("*/")) == []


def assert_all_gone(pids: Path) -> None:
    numbers = [int(number) for number in pids.read_text().split()]
    assert len(numbers) == 2
    for number in numbers:
        status = Path(f"/proc/{number}/status")
        # A killed grandchild may stay a zombie until whoever inherits it looks.
        assert not status.exists() or "State:\tZ" in status.read_text()


def hold(path: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock until it is sent a line."""
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "; input()", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"1\n"
    return holder


def test_a_lock_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        wanted = [write_wheel(tmp_path)]
        environments = Environments(tmp_path / "made", installer="pip")
        home = (await environments.ensure(wanted)).parents[1]
        (home / "smol.json").unlink()
        lines: list[str] = []
        with hold(Path(f"{home}.lock")) as holder:
            assert holder.stdin is not None
            task = asyncio.create_task(environments.ensure(wanted, lines.append))
            await until(lambda: bool(lines))
            assert await environments.prune([], unused_seconds=0) == []
            assert "waiting for another process" in lines[0]
            holder.stdin.write(b"\n")
            holder.stdin.close()
            await task
        assert lines[-1] == "the environment is ready"

    asyncio.run(story())


def test_while_an_orphaned_installer_lives_nobody_else_builds_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(
        tmp_path,
        monkeypatch,
        f"mkdir $5; echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600",
    )
    code = (
        "import asyncio, sys; from pathlib import Path; from smol.host.environments import Environments\n"
        "asyncio.run(Environments(Path(sys.argv[1])).ensure(['absent-smol-test']))"
    )

    async def story() -> None:
        with subprocess.Popen([sys.executable, "-c", code, tmp_path / "made"]) as host:
            await until((tmp_path / "pid").exists)
            host.kill()
        environments = Environments(tmp_path / "made")
        try:
            assert await environments.prune([], unused_seconds=0) == []
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        removed: list[Path] = []
        async with asyncio.timeout(20):
            while not removed:
                removed = await environments.prune([], unused_seconds=0)
        assert len(removed) == 1

    asyncio.run(story())


def test_a_base_without_pip_gives_the_environment_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    python = asyncio.run(Environments(tmp_path / "made", installer="pip").ensure([write_wheel(tmp_path)]))
    assert output(python, "import pip; print(pip.__file__)").startswith(str(tmp_path))


def test_only_unused_environments_are_pruned(tmp_path: Path) -> None:
    async def story() -> None:
        first, second = write_wheel(tmp_path, "1.0"), write_wheel(tmp_path, "2.0")
        environments = Environments(tmp_path / "made", installer="pip")
        assert await environments.prune([]) == []
        kept, dropped = [(await environments.ensure([each])).parents[1] for each in (first, second)]
        unfinished = tmp_path / "made" / "0123456789abcdef"
        unfinished.mkdir()
        assert await environments.prune([]) == [unfinished]
        assert await environments.prune([[first], ["no requirement"]], unused_seconds=0) == [dropped]
        assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [kept.name, kept.name + ".lock"]

    asyncio.run(story())


def test_a_check_names_what_is_wrong_with_an_interpreter(tmp_path: Path) -> None:
    asyncio.run(check(Path(sys.executable), ["msgspec"]))
    with pytest.raises(FailedPrecondition, match="lacks absent-smol-test>=2"):
        asyncio.run(check(Path(sys.executable), ["absent-smol-test>=2"]))
    with pytest.raises(FailedPrecondition, match=r"absent-\d+-x+"):
        asyncio.run(check(Path(sys.executable), [f"absent-{number}-{'x' * 100}" for number in range(50)]))
    with pytest.raises(FailedPrecondition, match="cannot be run: No such file"):
        asyncio.run(check(tmp_path / "python", []))


def test_uv_must_be_there_if_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedPrecondition, match="uv is not on the PATH"):
        asyncio.run(Environments(tmp_path / "made", installer="uv").ensure(["absent-smol-test"]))


def write_unit(home: Path, name: str, requirement: str) -> None:
    (home / name).mkdir(parents=True)
    manifest = f'[unit]\nname = "{name}"\nclass = "{name}:Needy"\nrequirements = [{requirement!r}]\n'
    (home / name / "unit.toml").write_text(f"{manifest}start_timeout_seconds = 60\n")
    (home / name / f"{name}.py").write_text(
        "import sys\nfrom smol.sdk import Unit, operation\n\n\nclass Needy(Unit):\n"
        '    """Needs a package."""\n\n    @operation(read_only=True)\n    async def version(self) -> list[str]:\n'
        '        """Tell it."""\n        import tiny_smol_test\n'
        "        return [tiny_smol_test.VERSION, sys.prefix]\n"
    )


@pytest.mark.timeout(120)
def test_a_unit_runs_in_an_environment_of_its_own_and_one_that_can_not_be_made_is_unavailable(
    tmp_path: Path,
) -> None:
    requirement = write_wheel(tmp_path)
    units = tmp_path / "units"
    write_unit(units, "needy", requirement)
    write_unit(units, "other", requirement)
    write_unit(units, "hopeless", "no-such-package-of-smol>=1")
    settings = {"SMOL_HOME": str(tmp_path / "home"), "SMOL_HOST_UNIT_DIRECTORIES": str(units)}
    with smol.local(settings) as s:
        version, prefix = s.needy.version()
        assert version == "1.0"
        assert prefix != sys.prefix
        assert s.other.version() == [version, prefix]
        for _ in range(2):
            with pytest.raises(SmolError, match="no-such-package-of-smol"):
                s.call("hopeless.version")
        states = {entry["name"]: (entry["state"], entry["error"]) for entry in s.lifecycle.units()}
        assert states["hopeless"][0] == "unavailable"
        assert "no-such-package-of-smol" in states["hopeless"][1]
        assert states["needy"][0] == "ready"
