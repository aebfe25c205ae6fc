"""Sets of packages for sandboxes, made without a network from a wheel that is written here."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from smol.client import connect
from smol.errors import FailedPrecondition, InvalidArgument, Unavailable
from smol.host.packages import Packages
from tests.e2e.wheels import write_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PYTHON = "{}.{}".format(*sys.version_info)


WITHOUT_UV = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")


@pytest.fixture(params=["pip", pytest.param("uv", marks=WITHOUT_UV)])
def offered(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels, which is all that the installer knows."""
    if request.param == "pip":
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return offer(tmp_path, monkeypatch.setenv)


def offer(tmp_path: Path, setenv: Any) -> Path:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels)
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX"):
        setenv(name, "1")
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        setenv(name, str(wheels))
    return wheels


def ensure(packages: Packages, *requirements: str, python: str = PYTHON) -> Path:
    return asyncio.run(packages.ensure(requirements, python))


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix != ".lock")


def test_a_set_can_be_imported_from_and_is_made_once(tmp_path: Path, offered: Path) -> None:
    packages = Packages(tmp_path / "sets")
    lines: list[str] = []

    async def story() -> list[Path]:
        names = (["tiny-smol-test==1.*"], ["Tiny_Smol.Test==1.*"])
        return await asyncio.gather(*(packages.ensure(each, PYTHON, lines.append) for each in names))

    one, other = asyncio.run(story())
    assert one == other
    assert sum(line.startswith("fetching") for line in lines) == 1
    code = "import tiny_smol_test as t; print(t.VERSION)"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(one)}, capture_output=True, text=True
    )
    assert found.stdout == "1.0\n", found.stderr
    assert list(one.glob("__pycache__/*.pyc"))
    assert (one / "tiny_smol_test.py").stat().st_mode & 0o777 == 0o644
    assert ensure(packages, "tiny-smol-test==1.*", python="3.99") != one
    assert [each.python for each in packages.sets()] == ["3.99", PYTHON]


def test_what_can_not_be_had_leaves_nothing_behind(tmp_path: Path, offered: Path) -> None:
    packages = Packages(tmp_path / "sets")
    with pytest.raises(FailedPrecondition, match="absent"):
        ensure(packages, "tiny-smol-test", "absent-smol-test")
    assert left(tmp_path / "sets") == []


def test_a_package_that_would_have_to_be_built_is_not_for_that_would_run_it(tmp_path: Path, offered: Path) -> None:
    proof = tmp_path / "it-ran"
    source = tmp_path / "src" / "evil_smol_test-1.0"
    source.mkdir(parents=True)
    (source / "setup.py").write_text(
        f"open({str(proof)!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil')"
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil_smol_test\nVersion: 1.0\n")
    with tarfile.open(offered / "evil_smol_test-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    with pytest.raises(FailedPrecondition):
        ensure(Packages(tmp_path / "sets"), "evil-smol-test")
    assert not proof.exists()


@pytest.mark.parametrize(
    "requirement",
    [
        "--index-url=http://x.test",
        "-r /etc/passwd",
        "x @ git+https://x.test/x",
        "./here",
        "x @ file:///etc",
        "-e .",
        "",
    ],
)
def test_only_names_of_packages_reach_the_installer(tmp_path: Path, requirement: str) -> None:
    with pytest.raises(InvalidArgument):
        ensure(Packages(tmp_path / "sets"), requirement)
    assert not (tmp_path / "sets").exists()


def test_sets_that_nobody_asks_for_are_removed(tmp_path: Path, offered: Path) -> None:
    packages = Packages(tmp_path / "sets")
    old, fresh = ensure(packages, "tiny-smol-test"), ensure(packages, "tiny-smol-test==1.0")
    os.utime(old / "smol.json", (0, 0))
    assert [each.path for each in asyncio.run(packages.prune(3600))] == [str(old)]
    assert [each.path for each in packages.sets()] == [str(fresh)]
    assert left(tmp_path / "sets") == [fresh.name]
    assert ensure(packages, "tiny-smol-test") == old


def test_what_a_killed_host_left_is_removed_and_made_anew(tmp_path: Path, offered: Path) -> None:
    packages = Packages(tmp_path / "sets")
    home = ensure(packages, "tiny-smol-test")
    left_over = home.with_name(f"{home.name}.new")
    shutil.move(home, left_over)
    (left_over / "smol.json").unlink()
    assert ensure(packages, "tiny-smol-test") == home
    left_over.mkdir()
    assert asyncio.run(packages.prune(3600)) == []
    assert left(tmp_path / "sets") == [home.name]


def test_requirements_for_other_platforms_alone_are_an_empty_set(tmp_path: Path, offered: Path) -> None:
    packages = Packages(tmp_path / "sets")
    ensure(packages, "absent-smol-test; sys_platform == 'other'")
    assert [each.size_bytes for each in packages.sets()] == [0]


def test_code_imports_from_an_environment_that_the_host_made(tmp_path: Path, serve: Any) -> None:
    settings: dict[str, str] = {}
    offer(tmp_path, settings.__setitem__)
    settings["SMOL_UNITS__CODE__ENVIRONMENTS"] = '{tiny = ["tiny-smol-test"], lost = ["absent-smol-test"]}'
    with serve(**settings) as served, connect(served.socket) as client:
        if client.code.isolation()["tier"] == "none":
            pytest.skip("this machine holds no code")
        assert client.code.environment_make(environment="tiny")["state"] == "ready"
        run = client.code.run(source="import tiny_smol_test as t; t.VERSION", environment="tiny")
        assert run["value"] == "1.0", run["stderr"]
        spoil = "import tiny_smol_test as t; open(t.__file__, 'w')"
        assert client.code.run(source=spoil, environment="tiny")["verdict"] == "forbidden"
        session = client.code.session_create(environment="tiny")
        assert session["environment"] == "tiny"
        for _ in range(2):
            run = client.code.session_run(
                session=session["session"], source="import tiny_smol_test as t; t.VERSION"
            )
            assert run["value"] == "1.0", run["stderr"]
            client.code.session_reset(session=session["session"])
        with pytest.raises(InvalidArgument, match="did you mean 'tiny'"):
            client.code.run(source="1", environment="tony")
        with pytest.raises(FailedPrecondition, match="absent-smol-test"):
            client.code.environment_make(environment="lost")
        with pytest.raises((FailedPrecondition, Unavailable), match="environment_make"):
            client.code.run(source="1", environment="lost")
        states = {each["name"]: each["state"] for each in client.code.environments()}
        assert states == {"tiny": "ready", "lost": "failed"}
        assert [each["requirements"] for each in client.packages.sets()] == [["tiny-smol-test"]]
        with pytest.raises(FailedPrecondition, match="for units"):
            client.packages.ensure(requirements=["tiny-smol-test"], python=PYTHON)
