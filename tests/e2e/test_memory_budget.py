"""The budget of a running host: who overruns dies alone, who does not fit waits or is refused, and all is told."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import smol
from smol.client import BlockingClient
from smol.errors import DeadlineExceeded, FailedPrecondition, ResourceExhausted, SmolError, Unavailable

MIB = 1 << 20
SMALL = {"SMOL_HOST_BUDGET": "192MiB"}


def _can_have_cgroups() -> bool:
    with smol.local() as client:
        return bool(client.memory.status()["guarantee"] == "hard")


@pytest.fixture(scope="module")
def hard() -> None:
    if not _can_have_cgroups():
        pytest.skip("no memory cgroup can be made here: run as root, or in a delegated scope")


def explained(client: BlockingClient, decision: str, subject: str) -> list[dict[str, Any]]:
    found = client.call("memory.explain", {"subject": subject, "limit": 512})
    return [occasion for occasion in found if occasion["decision"] == decision]


def swaps_of(client: BlockingClient) -> list[dict[str, Any]]:
    return [swap for swap in explained(client, "evict", "") if swap["facts"]["workers"][0].startswith("swap_")]


def test_the_ledger_shows_what_is_reserved_beside_what_is_measured(start: Callable[..., Any]) -> None:
    with start(SMOL_HOST_BUDGET="300MiB") as client:
        client.probe.echo("x")
        status = client.memory.status()
        assert status["budget_bytes"] == 300 * MIB
        assert status["budget_reason"] == "as configured"
        workers = {entry["name"]: entry for entry in status["workers"]}
        assert workers["probe"]["reserved_bytes"] == 32 * MIB
        assert MIB < workers["probe"]["measured_bytes"] < 32 * MIB
        assert {share["name"] for share in status["others"]} == {"host", "zygote"}
        total = sum(entry["reserved_bytes"] for entry in status["workers"])
        total += sum(share["size_bytes"] for share in status["others"])
        assert status["reserved_bytes"] == total <= status["budget_bytes"]
        assert status["reserved_bytes"] + status["free_bytes"] == status["budget_bytes"]
        assert client.lifecycle.status()["budget_bytes"] == 300 * MIB


@pytest.mark.usefixtures("hard")
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("take", {"mib": 4096}),
        ("breed", {"count": 500, "mib": 8, "seconds": 20}),
        ("map_file", {"mib": 2048}),
        ("fill_shared", {"mib": 2048}),
    ],
)
def test_a_hog_dies_alone(start: Callable[..., Any], operation: str, arguments: dict[str, Any]) -> None:
    with start(SMOL_HOST_BUDGET="256MiB") as client:
        neighbour = client.probe.pid()
        with pytest.raises(SmolError) as caught:
            client.within(30).call(f"hog.{operation}", arguments)
        assert isinstance(caught.value, Unavailable | ResourceExhausted), caught.value
        assert client.probe.pid() == neighbour
        assert client.hog.take(1) == 1
        status = client.memory.status()
        assert status["peak_bytes"] <= 256 * MIB


@pytest.mark.usefixtures("hard")
def test_who_overran_is_told_so_and_gets_more_the_next_time(start: Callable[..., Any]) -> None:
    with start(**SMALL) as client:
        with pytest.raises(Unavailable, match=r"ended during the call: it needed more than the [\d.]+ MiB"):
            client.hog.take(150)
        client.hog.take(1)
        reserved = {entry["name"]: entry["reserved_bytes"] for entry in client.memory.status()["workers"]}
        assert reserved["hog"] > 24 * MIB


def test_who_grows_is_given_more_if_there_is_room(start: Callable[..., Any]) -> None:
    with start() as client:
        assert client.hog.take(100, hold=True) == 100
        deadline = time.monotonic() + 20
        while not explained(client, "raise", "hog"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        reserved = {entry["name"]: entry["reserved_bytes"] for entry in client.memory.status()["workers"]}
        assert reserved["hog"] > 100 * MIB


def test_a_model_that_does_not_fit_is_loaded_in_a_smaller_form_or_refused(start: Callable[..., Any]) -> None:
    with start(**SMALL) as client:
        assert client.hog.load("m", 20) == "whole"
        assert client.hog.load("large", 150) == "half"
        assert explained(client, "degrade", "large")[0]["facts"]["to_variant"] == "half"
        with pytest.raises(ResourceExhausted, match="no room for hog/huge") as caught:
            client.hog.load("huge", 2000)
        details = caught.value.details
        assert details["needed_bytes"] == 2000 * MIB
        assert details["free_bytes"] < 192 * MIB
        assert {holder["name"] for holder in details["holders"]} >= {"hog", "host"}
        assert explained(client, "refuse", "hog")


def test_clients_cannot_reserve_for_units(start: Callable[..., Any]) -> None:
    with start() as client, pytest.raises(FailedPrecondition, match="for units"):
        client.call("memory.reserve", {"unit": "hog", "model": "m", "forms": [{"name": "a", "bytes": 1}]})


def test_units_that_do_not_fit_together_take_turns(start: Callable[..., Any]) -> None:
    with start(SMOL_HOST_BUDGET="210MiB") as client:
        client.call("memory.pin", {"name": "probe"})
        for _ in range(2):
            assert client.call("swap_a.work") == client.call("swap_b.work") == 72 * MIB
        swaps = swaps_of(client)
        assert len(swaps) == 3
        assert all("makes room for" in occasion["reason"] for occasion in swaps)


def test_calls_for_the_same_worker_go_together_when_two_take_turns(start: Callable[..., Any]) -> None:
    """First come, first served, 40 calls for two in turn would swap 39 times."""
    with start(SMOL_HOST_BUDGET="210MiB") as client, ThreadPoolExecutor(8) as threads:
        client = client.within(50)
        names = ["swap_a.work", "swap_b.work"] * 20
        answers = list(threads.map(lambda name: client.call(name, {"seconds": 0.05}), names))
        assert answers == [72 * MIB] * 40
        assert 1 <= len(swaps_of(client)) <= 19


def test_who_waits_for_room_in_vain_is_told_who_has_it(start: Callable[..., Any]) -> None:
    with start(SMOL_HOST_BUDGET="210MiB") as client, ThreadPoolExecutor(1) as threads:
        client.swap_b.work()
        client.swap_a.work()
        holding = threads.submit(client.swap_a.work, 4.0)
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises((ResourceExhausted, DeadlineExceeded)) as caught:
            client.within(1.0).call("swap_b.work")
        assert time.monotonic() - began < 3
        assert isinstance(caught.value, ResourceExhausted), caught.value
        assert caught.value.details["holders"][0]["name"] == "swap_a"
        assert caught.value.details["retry_after_ms"] > 0
        assert holding.result() == 72 * MIB


def test_a_pinned_worker_is_not_unloaded_for_another(start: Callable[..., Any]) -> None:
    with start(SMOL_HOST_BUDGET="210MiB") as client:
        pid = client.swap_a.work() and _pid(client, "swap_a")
        client.memory.pin("swap_a")
        with pytest.raises(ResourceExhausted, match="can ever be free"):
            client.swap_b.work()
        assert _pid(client, "swap_a") == pid
        client.memory.unpin("swap_a")
        assert client.swap_b.work() == 72 * MIB


def test_an_idle_worker_is_unloaded_after_as_long_as_its_caller_says(start: Callable[..., Any]) -> None:
    with start() as client:
        client.probe.echo("x")
        client.keeping(0).hog.take(1)
        deadline = time.monotonic() + 15
        while _pid(client, "hog"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert _pid(client, "probe")
        assert "was idle" in explained(client, "evict", "hog")[0]["reason"]


def test_the_budget_changes_while_the_host_runs(start: Callable[..., Any]) -> None:
    with start(SMOL_HOST_BUDGET="400MiB") as client:
        client.swap_a.work()
        client.swap_b.work()
        status = client.call("memory.set_budget", {"budget": "210MiB"})
        deadline = time.monotonic() + 10
        while status["budget_bytes"] != 210 * MIB:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            status = client.memory.status()
        assert len(status["workers"]) == 1
        with pytest.raises(SmolError, match="does not hold the host itself"):
            client.call("memory.set_budget", {"budget": "1MiB"})


def test_a_plan_says_what_would_fit(start: Callable[..., Any]) -> None:
    with start() as client:
        units = ["swap_a", "swap_b", "probe"]
        assert client.call("memory.plan", {"units": units})["fits"]
        found = client.call("memory.plan", {"units": units, "budget": "200MiB"})
        assert not found["fits"]
        assert {row["worker"]: row["outcome"] for row in found["rows"]}["swap_b"] == "swaps"


def test_large_bodies_are_counted_and_refused_when_there_is_no_room(start: Callable[..., Any]) -> None:
    with start(**SMALL) as client:
        assert len(client.probe.reverse(smol.Attachment(b"x" * (8 * MIB))).data) == 8 * MIB
        with pytest.raises(ResourceExhausted):
            client.probe.reverse(smol.Attachment(b"x" * (60 * MIB)))
        assert client.probe.echo("x") == "x"


@pytest.mark.usefixtures("hard")
def test_nothing_is_left_of_the_cgroups(start: Callable[..., Any]) -> None:
    with start() as client:
        client.probe.echo("x")
        kept_by = client.memory.status()["kept_by"]
        tree = Path(kept_by.partition(" at ")[2])
        assert (tree / "unit-probe").is_dir()
        limit = int((tree / "unit-probe" / _limit_file(tree)).read_text())
        shown = {entry["name"]: entry["limit_bytes"] for entry in client.memory.status()["workers"]}
        assert abs(limit - shown["probe"]) < MIB
    assert not tree.exists()


def test_the_kernel_is_told_to_end_workers_before_the_host(start: Callable[..., Any]) -> None:
    with start() as client:
        score = int(Path(f"/proc/{client.probe.pid()}/oom_score_adj").read_text())
        host = int(Path(f"/proc/{client.lifecycle.status()['pid']}/oom_score_adj").read_text())
        assert score > host


def test_what_was_learned_is_kept_for_the_next_host(start: Callable[..., Any], tmp_path: Path) -> None:
    with start() as client:
        client.hog.take(60, hold=True)
        deadline = time.monotonic() + 20
        while not explained(client, "raise", "hog"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    with start() as client:
        client.hog.take(1)
        reserved = {entry["name"]: entry["reserved_bytes"] for entry in client.memory.status()["workers"]}
        assert reserved["hog"] > 60 * MIB


def test_a_hundred_clients_do_not_wake_a_sleeping_measurement(start: Callable[..., Any]) -> None:
    """Measuring goes on while calls come; a broken loop would leave the figures of the start."""
    with start() as client:
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                client.probe.echo("x")

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            client.hog.take(80, hold=True)
            deadline = time.monotonic() + 20
            while True:
                measured = {entry["name"]: entry["measured_bytes"] for entry in client.memory.status()["workers"]}
                if measured.get("hog", 0) > 80 * MIB:
                    break
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _pid(client: BlockingClient, worker: str) -> int:
    return int({entry["name"]: entry["pid"] for entry in client.lifecycle.processes()}[worker])


def _limit_file(tree: Path) -> str:
    return "memory.max" if (tree / "memory.max").exists() else "memory.limit_in_bytes"


def test_memory_is_not_kept_by_a_host_that_was_killed(serve: Callable[..., Any]) -> None:
    """Its cgroup is empty then, and the next host sweeps it away."""
    with serve() as served, smol.connect(served.socket) as client:
        client.probe.echo("x")
        status = client.memory.status()
        if status["guarantee"] != "hard":
            pytest.skip("no memory cgroup can be made here")
        tree = Path(status["kept_by"].partition(" at ")[2])
        os.kill(served.pid, 9)
        served.process.wait()
    with smol.local() as client:
        client.math.evaluate("1")
        deadline = time.monotonic() + 5
        while tree.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_worker_that_leaks_is_started_anew_between_two_calls_and_none_is_lost(start: Callable[..., Any]) -> None:
    with start(SMOL_MEMORY_LEAK_SECONDS="4") as client:
        client.hog.drop()
        first = _pid(client, "hog")
        end = time.monotonic() + 60

        def leak(_: int) -> int:
            calls = 0
            while _pid(client, "hog") == first and time.monotonic() < end:
                assert client.hog.take(1, hold=True) == 1
                calls += 1
                client.memory.status()  # Which measures.
                time.sleep(0.2)
            return calls

        with ThreadPoolExecutor(3) as threads:
            calls = sum(threads.map(leak, range(3)))
        assert calls > 16
        assert client.hog.take(1) == 1
        assert _pid(client, "hog") != first
        (evicted,) = explained(client, "evict", "hog")
        assert "it leaks memory, it grew by" in evicted["reason"]
        assert not explained(client, "kill", "hog")


def test_workers_give_free_memory_back_when_told(start: Callable[..., Any]) -> None:
    def size(client: BlockingClient) -> int:
        time.sleep(0.3)  # For a fresh measurement.
        return int(next(w["measured_bytes"] for w in client.memory.status()["workers"] if w["name"] == "hog"))

    with start() as client:
        assert client.hog.scatter(64) == 64
        pid, before = _pid(client, "hog"), size(client)
        assert before > 64 * MIB
        client.memory.trim()
        deadline = time.monotonic() + 15
        while size(client) > before - 48 * MIB:
            assert time.monotonic() < deadline
        assert _pid(client, "hog") == pid
