"""Every command of the README and the how-to pages works as it is written there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, shared: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory with the photos that the pages speak of, and an environment of its own."""
    pictures = sorted((shared / "datasets" / "coco-val64" / "images").glob("*.jpg"))
    for name, source in zip(("street.jpg", "dog.jpg", "rose.jpg"), pictures, strict=False):
        Image.open(source).convert("RGB").save(tmp_path / name)
    (tmp_path / "my_yolox.onnx").symlink_to(shared / "models" / "detect" / "yolox_nano_416.onnx")
    (tmp_path / "flowers.onnx").symlink_to(ROOT / "src" / "smol" / "models" / "embedded" / "smol_classify.onnx")
    (tmp_path / "flowers.txt").write_text("\n".join(f"flower {number}" for number in range(10)))
    (tmp_path / "my-pictures").mkdir()
    for source in pictures[:12]:
        (tmp_path / "my-pictures" / source.name).symlink_to(source)
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SMOL_HOME": str(tmp_path / "home"),
        "SMOL_MODEL_MIRROR": str(shared / "models"),
        "SMOL_GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
    }
    yield tmp_path, variables


def free_port() -> int:
    """A port that nobody has now: other hosts may run on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def commands(page: str) -> list[str]:
    """The commands of a page's shell blocks, without those that install or start what the test has started."""
    lines = [line for block in BLOCK.findall((ROOT / page).read_text()) for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("pip install", "smol serve"))]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/how-to/{name}.md" for name in ("use-models", "run-as-a-service", "keep-within-memory")),
    ],
)
def test_the_commands_of_a_page_work(page: str, desk: tuple[Path, dict[str, str]]) -> None:
    directory, variables = desk
    host = subprocess.Popen(["smol", "serve"], cwd=directory, env=variables, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(directory / "home" / "run" / "smol.sock")
        for line in commands(page):
            command = line.replace("localhost:2048", variables["SMOL_GATEWAY_LISTEN"])
            done = subprocess.run(
                ["bash", "-c", command], cwd=directory, env=variables, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert done.stdout or "remove" in command or "pin" in command, f"{command} printed nothing"
    finally:
        host.send_signal(signal.SIGTERM)
        _, log = host.communicate(timeout=20)
    assert host.returncode == 0, log
    assert "Traceback" not in log


def test_a_picture_is_drawn(desk: tuple[Path, dict[str, str]]) -> None:
    directory, variables = desk
    command = ["smol", "detect", "image", "street.jpg", "--draw", "out.png"]
    done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with Image.open(directory / "out.png") as drawn, Image.open(directory / "street.jpg") as photo:
        assert drawn.format == "PNG"
        assert drawn.size == photo.size


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.02)
