"""On the real kernel: a worker that overruns dies alone, nothing stays behind, and what RLIMIT_DATA stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smol.host.limits import find_hierarchy
from smol.host.memory import pss_bytes, rss_bytes, tree_of, tree_pss_bytes

MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own limits are Linux's")


def run_python(code: str, timeout_seconds: float = 40.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env=environment,
        check=False,
    )


@pytest.fixture
def cgroups() -> None:
    """Skips where no memory cgroup may be made; tried in a process of its own, for it gets moved."""
    tried = run_python(
        """
        from smol.host.cgroup import make_tree
        from smol.errors import FailedPrecondition
        try:
            assert make_tree(256 << 20).remove()
        except FailedPrecondition as error:
            print(error)
        """
    )
    assert tried.returncode == 0, tried.stderr
    if tried.stdout:
        pytest.skip(tried.stdout.strip())


@linux
@pytest.mark.usefixtures("cgroups")
def test_a_worker_that_overruns_dies_alone_and_everything_is_removed() -> None:
    result = run_python(
        """
        import os, subprocess, sys, time
        from pathlib import Path
        from smol.host.cgroup import make_tree

        tree = make_tree(256 << 20)
        assert os.getpid() in tree.host.pids()

        def start(name, limit_mib, size_mib):
            group = tree.child(name, limit_mib << 20)
            code = f"x = bytearray({size_mib} << 20); print('ready', flush=True); input()"
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                preexec_fn=lambda: group.add(0),
            )
            return group, process

        quiet, neighbour = start("quiet", 64, 20)
        assert neighbour.stdout.readline() == b"ready\\n"
        greedy, hog = start("gre/edy", 48, 400)
        assert hog.wait(30) == -9, hog.returncode
        assert greedy.oom_kills() >= 1  # Version 2 counts each process of a group that ends together.
        assert greedy.peak_bytes() is None or 40 << 20 < greedy.peak_bytes() <= 48 << 20
        assert neighbour.poll() is None, "the neighbour died too"
        assert quiet.oom_kills() == 0
        assert 20 << 20 < quiet.used_bytes() < 64 << 20, quiet.used_bytes()
        assert quiet.pids() == [neighbour.pid]
        assert tree.top.used_bytes() >= quiet.used_bytes()
        assert greedy.remove()

        forker, bomb = start("forker", 48, 1)
        bomb.stdout.readline()
        neighbour.stdin.write(b"\\n"); neighbour.stdin.flush()
        assert neighbour.wait(10) == 0
        path = tree.top.path
        while not tree.remove():
            bomb.poll()
            time.sleep(0.005)
        assert bomb.wait(10) == -9
        assert not path.exists()
        assert os.getpid() not in [int(p) for g in path.parent.glob("smol-*/**/cgroup.procs")
                                   for p in g.read_text().split()]
        print("done")
        """
    )
    assert result.stdout.endswith("done\n"), result.stderr


@linux
@pytest.mark.usefixtures("cgroups")
def test_two_workers_within_their_limits_cannot_pass_the_budget_together() -> None:
    result = run_python(
        """
        import subprocess, sys, time
        from smol.host.cgroup import make_tree

        tree = make_tree(96 << 20)
        groups = [tree.child(name, 80 << 20) for name in "ab"]
        code = "x = bytearray(60 << 20); print('ready', flush=True); input()"
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             preexec_fn=lambda group=group: group.add(0))
            for group in groups
        ]
        for _ in range(2000):
            if any(process.poll() is not None for process in processes):
                break
            time.sleep(0.005)
        assert [process.poll() for process in processes].count(-9) == 1
        assert tree.top.peak_bytes() is None or tree.top.peak_bytes() <= 96 << 20
        while not tree.remove():
            time.sleep(0.005)
            [process.poll() for process in processes]
        [process.wait(10) for process in processes]
        print("done")
        """
    )
    assert result.stdout.endswith("done\n"), result.stderr


@linux
@pytest.mark.usefixtures("cgroups")
def test_the_cgroup_of_a_host_that_was_killed_is_removed_by_the_next() -> None:
    killed = run_python(
        """
        import os, signal
        from smol.host.cgroup import make_tree
        print(make_tree(256 << 20).top.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = Path(killed.stdout.strip())
    assert path.exists()
    following = run_python("from smol.host.cgroup import make_tree; print(make_tree(256 << 20).remove())")
    assert following.stdout == "True\n", following.stderr
    assert not path.exists()


@linux
def test_a_budget_can_change_in_both_directions_while_running(cgroups: None) -> None:
    result = run_python(
        """
        from smol.host.cgroup import make_tree
        tree = make_tree(256 << 20)
        for size in (512, 128, 256):
            tree.set_budget(size << 20)
        child = tree.child("a", 32 << 20)
        child.set_limit(64 << 20)
        child.set_limit(32 << 20)
        print(tree.remove())
        """
    )
    assert result.stdout == "True\n", result.stderr


ATTEMPTS = {
    "heap": ("bytearray(256 * MIB)", "MemoryError"),
    "many small": ("[bytearray(MIB) for _ in range(256)]", "MemoryError"),
    "private map": ("mmap.mmap(-1, 256 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", "OSError"),
    "many threads": ("[threading.Thread(target=event.wait).start() for _ in range(64)]", "RuntimeError"),
    "shared map": ("mmap.mmap(-1, 256 * MIB)", "not stopped"),
    "memfd": ("os.truncate(os.memfd_create('x'), 256 * MIB)", "not stopped"),
    "a few threads": ("[threading.Thread(target=event.wait).start() for _ in range(4)]", "not stopped"),
    "heap within it": ("bytearray(48 * MIB)", "not stopped"),
}


@linux
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_rlimit_data_stops_private_memory_and_nothing_else(attempt: str) -> None:
    expression, expected = ATTEMPTS[attempt]
    result = run_python(
        f"""
        import mmap, os, threading
        from smol.host.enforcement import limit_process
        MIB = 1 << 20
        event = threading.Event()
        assert limit_process(64 * MIB) > 64 * MIB
        try:
            {expression}
        except Exception as error:
            print(type(error).__name__)
        else:
            print("not stopped")
        event.set()
        """
    )
    assert result.stdout.strip() == expected, result.stderr


@linux
def test_the_measured_size_follows_what_a_process_takes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "input(); x = bytearray(32 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        wait_for(lambda: pss_bytes(process.pid) > MIB)
        before = pss_bytes(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        grown = pss_bytes(process.pid) - before
        assert 31 * MIB < grown < 40 * MIB
        assert rss_bytes(process.pid) >= pss_bytes(process.pid)
        assert process.pid in tree_of(os.getpid())
        assert tree_pss_bytes(os.getpid()) >= pss_bytes(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert pss_bytes(process.pid) == rss_bytes(process.pid) == 0


@linux
def test_a_user_without_rights_is_told_what_is_missing() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give up its rights")
    if find_hierarchy() is None:
        pytest.skip("there is no memory cgroup here")
    result = run_python(
        """
        import os
        from smol.errors import FailedPrecondition
        from smol.host.cgroup import make_tree
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            make_tree(256 << 20)
        except FailedPrecondition as error:
            print(error)
        """
    )
    assert "systemd-run --user --scope" in result.stdout, result.stderr


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.005)
