"""A Go program that carries Smol: it serves, is restarted, runs scripts and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

import smol
from smol.errors import SmolError
from smol.host.golang import FLAGS, find_toolchain, sdk_directory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.usefixtures("go_tools")]

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 8 * 2**20
GOOD = """
from words import exact

def main(s, expression, *rest):
    print("this goes to the log")
    return {"exact": s.math.evaluate(exact(expression))["exact"], "rest": rest}
"""
ASYNCHRONOUS = """
async def main(s):
    return [item["name"] for item in await s.lifecycle.units() if item["name"] == "math"]
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a wheel of Smol as `make box` builds it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    command += ["-w", str(directory), str(ROOT)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def box(wheel: Path, go_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """smol-box with its wheel."""
    module = tmp_path_factory.mktemp("box") / "go"
    shutil.copytree(sdk_directory(), module)
    shutil.copy(next(wheel.glob("*.whl")), module / "cmd" / "smol-box" / "payload")
    program = module.parent / "smol-box"
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0"}
    command: list[str] = [str(find_toolchain().go), "build", *FLAGS, "-o", str(program), "./cmd/smol-box"]
    subprocess.run(command, cwd=module, env=environ, check=True, timeout=900, capture_output=True)
    return program


@contextmanager
def serving(box: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """smol-box once it serves; killed at the end if it still runs."""
    environ = {**os.environ, "SMOL_HOME": str(home)}
    command = [str(box), "-python", sys.executable]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            while "Smol serves at" not in said:
                said = process.stderr.readline()
                assert said, "smol-box ended"
            yield process
        finally:
            process.kill()


def _eventually(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def _host_pid(home: Path) -> int:
    try:
        with smol.connect(home / "run" / "smol.sock") as client:
            return int(client.lifecycle.status()["pid"])
    except SmolError:
        return 0


def test_one_file_serves_smol_restarts_it_and_drains_it(
    box: Path, tmp_path: Path, gone: Callable[[int], bool]
) -> None:
    assert box.stat().st_size <= LARGEST_BYTES
    with serving(box, tmp_path) as process:
        with smol.connect(tmp_path / "run" / "smol.sock") as client:
            assert client.math.evaluate("2/3")["exact"] == "2/3"
        first = _host_pid(tmp_path)
        os.kill(first, signal.SIGKILL)
        _eventually(lambda: _host_pid(tmp_path) not in (0, first))
        second = _host_pid(tmp_path)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert "is started again" in log
        assert gone(second)


def test_a_killed_box_takes_its_host_with_it(box: Path, tmp_path: Path, gone: Callable[[int], bool]) -> None:
    with serving(box, tmp_path) as process:
        pid = _host_pid(tmp_path)
        process.kill()
        _eventually(lambda: gone(pid))


def test_a_second_box_says_that_a_host_is_there(box: Path, tmp_path: Path) -> None:
    with serving(box, tmp_path):
        command = [str(box), "-python", sys.executable]
        environ = {**os.environ, "SMOL_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "already listening" in done.stderr


def test_a_script_returns_what_it_found(wheel: Path, go_tools: Path, tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, text in {
        "good.py": GOOD,
        "words.py": "def exact(text):\n    return text.strip()\n",
        "asynchronous.py": ASYNCHRONOUS,
        "refused.py": "def main(s):\n    s.math.evaluate('1/0')\n",
        "broken.py": "def main(s):\n    raise KeyError('oh')\n",
        "exits.py": "import os\n\ndef main(s):\n    os._exit(5)\n",
        "no_main.py": "x = 1\n",
        "unfit.py": "def main(s):\n    return object()\n",
    }.items():
        (scripts / name).write_text(text)

    def run(name: str, *arguments: str) -> dict[str, object]:
        command = [str(go_tools / "driver"), "script", sys.executable]
        command += [str(path) for path in (wheel, tmp_path / "box", scripts / name)]
        command += arguments
        environ = {**os.environ, "SMOL_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=environ, capture_output=True, timeout=60)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    assert run("good.py", " 2/3 ", "more") == {"value": {"exact": "2/3", "rest": ["more"]}}
    assert run("asynchronous.py") == {"value": ["math"]}
    assert run("refused.py")["code"] == "INVALID_ARGUMENT"
    for name, told in {
        "broken.py": "KeyError: 'oh'",
        "exits.py": "exit status 5",
        "no_main.py": "no function main",
        "unfit.py": "object",
    }.items():
        answer = run(name)
        assert answer["code"] == "INTERNAL", name
        assert told in str(answer["message"]), name
    assert run("not_there.py")["code"] == "NOT_FOUND"


def test_the_wheel_carries_the_go_module(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(next(wheel.glob("*.whl")), tmp_path, "zip")
    assert (tmp_path / "smol" / "golang" / "go.mod").is_file()
    assert (tmp_path / "smol" / "golang" / "cmd" / "files" / "unit.toml").is_file()
    assert (tmp_path / f"smol-{version('smol')}.dist-info" / "METADATA").is_file()
