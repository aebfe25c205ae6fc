"""Algebra and linear algebra through a host: fed back, ended in time, and as their pages say."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import smol
from smol.errors import DeadlineExceeded, ResourceExhausted
from smol.types import Attachment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"SMOL_HOME": str(tmp_path)}


def test_an_exact_solution_is_evaluated_by_the_calculator(home: dict[str, str]) -> None:
    with smol.local(home) as client:
        result = client.call("algebra.solve", {"equations": ["x^3 = x + 1"], "assume": {"x": "real"}})
        form = result["solutions"][0]["values"]["x"]
        again = client.call("math.evaluate", {"expression": form["exact"], "precision": 20})
    assert again["decimal"] == form["decimal"] == "1.324717957244746026"


def test_a_computation_that_does_not_end_is_ended_and_the_next_one_is_answered(home: dict[str, str]) -> None:
    with smol.local(home) as client:
        client.call("algebra.expand", {"expression": "x"})
        worker = next(entry["pid"] for entry in client.call("lifecycle.processes") if entry["name"] == "algebra")
        with pytest.raises(DeadlineExceeded):
            client.within(1).algebra.expand("binomial(10^9, 10^8)")
        with pytest.raises(ResourceExhausted):
            client.call("algebra.expand", {"expression": "(x+1)^100000"})
        assert client.call("algebra.expand", {"expression": "(x+1)^2"})["exact"] == "x^2 + 2*x + 1"
        until = time.monotonic() + 5
        while children(worker) and time.monotonic() < until:
            time.sleep(0.05)
        assert children(worker) == []


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_large_matrices_travel_as_files(home: dict[str, str]) -> None:
    matrix = np.random.default_rng(1).standard_normal((300, 300))
    files = []
    for array in (matrix, matrix @ np.ones(300)):
        stream = io.BytesIO()
        np.save(stream, array)
        files.append(Attachment(stream.getvalue()))
    with smol.local(home) as client:
        result = client.call("linalg.compute", {"computation": "solve", "arrays": files})
    assert result["engine"] == "numpy"
    assert np.allclose(np.load(io.BytesIO(result["arrays"][0].data)), 1)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", ["algebra", "linalg"])
def test_the_examples_of_a_page_work(page: str, tmp_path: Path) -> None:
    text = (ROOT / f"docs/reference/{page}.md").read_text()
    np.save(tmp_path / "a.npy", np.eye(3))
    np.save(tmp_path / "b.npy", np.ones(3))
    environ = {
        **os.environ,
        "SMOL_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands = [line for line in text.splitlines() if line.startswith("smol ")]
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert commands and programs
    for command in [
        *(["bash", "-c", line] for line in commands),
        *([sys.executable, "-c", text] for text in programs),
    ]:
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout
