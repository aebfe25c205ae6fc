"""Code that has the network reaches the hosts of its list and nothing else, whatever it tries."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from smol.sandbox.proxy import Proxy
from smol.sandbox.reach import Reach
from smol.sandbox.records import LAYERS, Outcome
from tests.sandbox.corpus import Program, load
from tests.sandbox.harness import Bench, require
from tests.sandbox.host import WatchedHost
from tests.sandbox.test_ordinary import fault

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]

LOOPBACK = "127.0.0.1"
NAMES = {
    "good.test": LOOPBACK,
    "private.test": "10.0.0.1",
    "loopback.test": "127.0.0.2",
    "mapped.test": "::ffff:127.0.0.1",
    "linklocal.test": "169.254.169.254",
}
NOT_WITHOUT_SOCKETS = {"every-family"}
"""Of the corpus for code without a network: it counts a socket of any kind as an escape."""


class Pages(BaseHTTPRequestHandler):
    """The allowed server: small, big, slow, and one that sends elsewhere. bait: the port it sends to."""

    bait = 0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path in ("/to-the-host", "/to-hello"):
            port = self.connection.getsockname()[1]
            place = (
                f"http://{LOOPBACK}:{self.bait}/"
                if self.path == "/to-the-host"
                else f"http://good.test:{port}/hello"
            )
            self.send_response(302)
            self.send_header("Location", place)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/hello":
            self.wfile.write(b"hello")
        elif self.path == "/big":
            for _ in range(1024):
                self.wfile.write(b"x" * 65536)
        elif self.path == "/slow":
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)


class QuietServer(ThreadingHTTPServer):
    """Connections that sandboxes break off are no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedHost]:
    with tempfile.TemporaryDirectory() as folder, WatchedHost(Path(folder)) as host:
        yield host


@pytest.fixture(scope="module")
def allowed(watched: WatchedHost) -> Iterator[int]:
    Pages.bait = int(watched.facts["port"])
    with QuietServer((LOOPBACK, 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def run(bench: Bench, program: Program, source: str, allowed: int) -> tuple[Outcome, Proxy]:
    most = int(program.options.get("most", str(64 << 20)))
    reach = Reach(hosts=tuple(NAMES), ports=(allowed,), private=((LOOPBACK, allowed),), most_bytes=most)

    async def resolve(host: str, port: int) -> list[str]:
        return [NAMES[host]]

    return await bench.run_with_network(program, source, lambda listener: Proxy(reach, listener, resolve))


@pytest.mark.parametrize("without", ["nothing", "cgroup", "landlock"])
@pytest.mark.parametrize("corpus", ["proxied", "hostile"])
def test_hostile_programs_with_a_network_reach_nothing_but_the_list(
    without: str, corpus: str, watched: WatchedHost, allowed: int
) -> None:
    layers = require(tuple(layer for layer in LAYERS if layer != without))
    programs = [
        program
        for program in load(corpus)
        if program.topic == ("hostile" if corpus == "proxied" else "network")
        and program.name not in NOT_WITHOUT_SOCKETS
    ]
    facts = {**watched.facts, "allowed": str(allowed)}

    async def scenario() -> dict[str, list[str]]:
        wrong = {}
        async with Bench(layers) as bench:
            for program in programs:
                if not bench.runs(program.language):
                    continue
                outcome, proxy = await run(bench, program, program.with_facts(facts), allowed)
                found = watched.harm(outcome.stdout, outcome.stdout + outcome.stderr) + bench.leftovers()
                found += [f"it reached {c.address}" for c in proxy.contacts if c.address not in ("", LOOPBACK)]
                if program.verdicts and outcome.verdict not in program.verdicts:
                    found.append(f"verdict {outcome.verdict}")
                if found:
                    wrong[program.name] = [*found, outcome.stderr.decode(errors="replace")[-300:]]
        return wrong

    assert programs
    assert asyncio.run(scenario()) == {}


@pytest.mark.parametrize("without", ["nothing", "cgroup"])
def test_ordinary_programs_with_a_network_work(without: str, watched: WatchedHost, allowed: int) -> None:
    layers = require(tuple(layer for layer in LAYERS if layer != without))
    facts = {"allowed": str(allowed)}

    async def scenario() -> dict[str, str]:
        wrong = {}
        async with Bench(layers) as bench:
            for program in load("proxied"):
                if program.topic != "ordinary" or not bench.runs(program.language):
                    continue
                outcome, _ = await run(bench, program, program.with_facts(facts), allowed)
                if found := fault(program.expecting(facts), outcome):
                    wrong[program.name] = found
        return wrong

    assert asyncio.run(scenario()) == {}
