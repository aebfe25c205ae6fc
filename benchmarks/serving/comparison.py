"""The same classifier behind Smol and behind other servers: requests per second, latencies and memory.

Every server runs all the time, in an environment of its own that is made once; rounds of requests alternate
between them, over keep-alive TCP with the same picture as a form. The client is in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import uvloop
from onnx import numpy_helper
from PIL import Image

from benchmarks.report import Figure, median
from smol.models import embedded

__all__ = ["compare"]

HERE = Path(__file__).parent / "peers"
CACHE = Path(sys.prefix) / "peers"
EMBEDDED = Path(next(iter(embedded.__path__)))
SHARED = Path(os.environ.get("SMOL_SHARED") or Path(__file__).parents[3] / "shared")
MIB = 2**20
ROUNDS = 6
ROUND_SECONDS = 2.0
START_SECONDS = 90.0
_ONNX = ("numpy", "onnxruntime", "pillow", "python-multipart", "uvicorn[standard]")


class Peer(NamedTuple):
    """A server: its script, and what it needs. torch: it computes with PyTorch."""

    name: str
    script: str
    requirements: tuple[str, ...]
    torch: bool = False


class Network(NamedTuple):
    """A classifier. model: its name for Smol. spec: what the peers know of it."""

    name: str
    model: str
    spec: Mapping[str, Any]


PEERS = (
    Peer("bare Starlette + ONNX Runtime", "bare_starlette.py", ("starlette", *_ONNX)),
    Peer("LitServe + ONNX Runtime", "lit_serve.py", ("litserve", *_ONNX)),
    Peer("FastAPI + PyTorch", "fastapi_torch.py", ("fastapi", "torch==2.13.0", *_ONNX), torch=True),
)


def compare() -> list[Figure]:
    """Figures of each network behind each server that could be installed."""
    figures = []
    for network in _networks():
        with contextlib.ExitStack() as stack:
            port = _free_port()
            servers = {"Smol": (stack.enter_context(_smol(port)), port, "/v1/units/classify/image")}
            for peer in PEERS:
                if peer.torch and "weights" not in network.spec:
                    print(f"{network.name} is left out for {peer.name}: it has no PyTorch form here")
                    continue
                python = _environment(peer)
                if python is not None:
                    port = _free_port()
                    servers[peer.name] = (
                        stack.enter_context(_peer(peer, python, network, port)),
                        port,
                        "/classify",
                    )
            figures += uvloop.run(_alternate(network, servers))
    return figures


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _networks() -> Iterator[Network]:
    """The one that comes with the package, and a larger one where there is a folder of real models."""
    CACHE.mkdir(parents=True, exist_ok=True)
    file = EMBEDDED / "smol_classify.onnx"
    weights = CACHE / "smol_classify.npz"
    np.savez(weights, **_weights(file))
    spec = {"file": str(file), "side": 32, "crop": 1.0, "mean": 127.5, "std": 63.75}
    spec |= {"weights": str(weights), "networks": str(EMBEDDED.parent / "networks.py")}
    yield Network("smol-classify", "smol-classify", spec)
    larger = SHARED / "models" / "classify" / "mobilenet_v2_1.0_224_fp32.onnx"
    if larger.is_file():
        spec = {"file": str(larger), "side": 224, "crop": 0.875, "mean": 127.5, "std": 127.5}
        yield Network("mobilenet-v2", "mobilenet-v2", spec)


def _weights(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of the package's network by the order of its convolutions."""
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}
    kernels = [each for name, each in found.items() if name.endswith(".half") and each.ndim == 4]
    biases = [each for name, each in found.items() if name.startswith("onnx::Conv") and each.ndim == 1]
    kept = {name: found[name] for name in ("head.weight", "head.bias", "temperature")}
    kept |= {f"weight{number}": each.astype(np.float32) for number, each in enumerate(kernels)}
    return kept | {f"bias{number}": each.astype(np.float32) for number, each in enumerate(biases)}


def _environment(peer: Peer) -> Path | None:
    """The interpreter of a peer's environment; None, with a word about it, where it can't be made."""
    key = hashlib.sha256(json.dumps([sys.version_info[:2], *peer.requirements]).encode()).hexdigest()[:12]
    folder = CACHE / key
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        print(f"installing {peer.name} …", file=sys.stderr)
        for command in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [python, "-m", "pip", "install", "--quiet", *peer.requirements],
        ):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                print(f"{peer.name} is left out: {done.stdout.strip().splitlines()[-1:]}")
                return None
        (folder / "made").touch()
    return python


@contextlib.contextmanager
def _server(command: Sequence[object], port: int, environ: Mapping[str, str]) -> Iterator[int]:
    """A process that answers at a port, in a group of its own that ends with the block. Gives its id."""
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words, env={**os.environ, **environ}, cwd=HERE, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[1]} did not start")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _smol(port: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="smol-bench-") as home:
        environ = {"SMOL_HOME": home, "SMOL_GATEWAY_LISTEN": f"127.0.0.1:{port}"}
        if (SHARED / "models").is_dir():
            environ["SMOL_MODEL_MIRROR"] = str(SHARED / "models")
        with _server([sys.executable, "-m", "smol.cli.main", "serve"], port, environ) as pid:
            yield pid


@contextlib.contextmanager
def _peer(peer: Peer, python: Path, network: Network, port: int) -> Iterator[int]:
    with _server([python, HERE / peer.script, json.dumps(network.spec), port], port, {}) as pid:
        yield pid


async def _alternate(network: Network, servers: Mapping[str, tuple[int, int, str]]) -> list[Figure]:
    photo = _picture()
    rates: dict[str, list[float]] = {name: [] for name in servers}
    single: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(ROUNDS + 1):
        for name, (_, port, path) in servers.items():
            request = _request(path, photo, network.model)
            count, _ = await _load(port, request, 8, ROUND_SECONDS)
            _, times = await _load(port, request, 1, ROUND_SECONDS)
            if number:  # The first round warms up.
                rates[name].append(count / ROUND_SECONDS)
                single[name] += times
    figures = []
    for name, (pid, _, _) in servers.items():
        times = sorted(single[name])
        label = f"{network.name}, {name}"
        figures += [
            Figure(f"{label}: 8 connections", median(rates[name]), "requests/s"),
            Figure(f"{label}: one connection, p50", 1000 * times[len(times) // 2], "ms"),
            Figure(f"{label}: one connection, p99", 1000 * times[len(times) * 99 // 100], "ms"),
            Figure(f"{label}: all its processes (PSS)", _tree_bytes(pid) / MIB, "MiB"),
        ]
    return figures


def _picture() -> bytes:
    """A JPEG of 640 x 480: waves of colour, so that it compresses as a photograph does."""
    rows, columns = np.mgrid[0:480, 0:640]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((17, 23), (29, 11), (13, 37))]
    noise = np.random.default_rng(0).normal(0, 12, (480, 640, 3))
    pixels = np.clip(np.stack(waves, axis=2) * 60 + 128 + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _request(path: str, photo: bytes, model: str) -> bytes:
    parts = [b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n']
    parts += [b"Content-Type: image/jpeg\r\n\r\n", photo, b"\r\n"]
    if path.startswith("/v1/"):  # Smol has several networks; the others have this one.
        parts += [b'--X\r\nContent-Disposition: form-data; name="model"\r\n\r\n', model.encode(), b"\r\n"]
    body = b"".join([*parts, b"--X--\r\n"])
    fields = "Host: localhost\r\nContent-Type: multipart/form-data; boundary=X"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _load(port: int, request: bytes, connections: int, seconds: float) -> tuple[int, list[float]]:
    """Requests answered, and the seconds each took."""
    ends = time.perf_counter() + seconds
    taken: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < ends:
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode() + (await reader.read(2000)).decode())
            at = head.lower().index(b"content-length:") + 15
            await reader.readexactly(int(head[at : head.index(b"\r", at)]))
            taken.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return len(taken), taken


def _tree_bytes(pid: int) -> int:
    """The proportional set size of a process and all that it started."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(
                int(path.parent.name)
            )
    family, total = [pid], 0
    for member in family:
        family += parents.get(member, [])
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
