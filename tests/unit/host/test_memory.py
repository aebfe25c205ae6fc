"""Figures read from fixture trees; the real kernel's are in tests/e2e."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from smol.host.memory import (
    PAGE_BYTES,
    Gauge,
    Machine,
    Pressure,
    children_of,
    machine,
    pressure,
    pss_bytes,
    rss_bytes,
    set_oom_score_adj,
    tree_of,
    tree_pss_bytes,
)

KIB = 1024
MIB = 1 << 20


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_process(root: Path, pid: int, pss_kib: int, rss_pages: int, children: str = "") -> None:
    write(root, f"proc/{pid}/smaps_rollup", f"0-1 ---p\nRss: 9 kB\nPss: {pss_kib} kB\nPss_Anon: 1 kB\n")
    write(root, f"proc/{pid}/statm", f"9999 {rss_pages} 3 4 0 5 0\n")
    write(root, f"proc/{pid}/task/{pid}/children", children)


def test_sizes_of_a_process_are_in_bytes(tmp_path: Path) -> None:
    add_process(tmp_path, 7, 1234, 500)
    assert pss_bytes(7, tmp_path) == 1234 * KIB
    assert rss_bytes(7, tmp_path) == 500 * PAGE_BYTES


def test_a_process_that_is_gone_or_garbled_has_no_size(tmp_path: Path) -> None:
    assert (pss_bytes(7, tmp_path), rss_bytes(7, tmp_path), children_of(7, tmp_path)) == (0, 0, [])
    write(tmp_path, "proc/7/smaps_rollup", "Pss: lots\n")
    write(tmp_path, "proc/7/statm", "")
    assert (pss_bytes(7, tmp_path), rss_bytes(7, tmp_path)) == (0, 0)


def test_a_tree_has_all_descendants_and_those_of_every_thread(tmp_path: Path) -> None:
    add_process(tmp_path, 1, 100, 1, "2 3")
    add_process(tmp_path, 2, 10, 1, "4")
    write(tmp_path, "proc/2/task/22/children", "5 ")
    for pid in (3, 4, 5):
        add_process(tmp_path, pid, 1, 1)
    assert tree_of(1, tmp_path) == [1, 2, 3, 4, 5]
    assert tree_pss_bytes(1, tmp_path) == 113 * KIB


def test_the_machine_is_read_at_one_look(tmp_path: Path) -> None:
    info = "MemTotal: 2000 kB\nMemFree: 100 kB\nMemAvailable: 900 kB\nCached: 5 kB\n"
    write(tmp_path, "proc/meminfo", info + "SwapTotal: 500 kB\nSwapFree: 200 kB\n")
    write(tmp_path, "proc/pressure/memory", "some avg10=1.50 avg60=0 total=1\nfull avg10=0.25 avg60=0 total=1\n")
    write(tmp_path, "sys/block/zram0/mm_stat", "4096 1000 12288 0 12288 0 0 0 0\n")
    write(tmp_path, "sys/block/zram1/mm_stat", "4096 1000 1 0 12288 0 0 0 0\n")
    (tmp_path / "sys/block/sda").mkdir()
    found = machine(tmp_path)
    assert (found.total_bytes, found.available_bytes, found.swap_used_bytes) == (
        2000 * KIB,
        900 * KIB,
        300 * KIB,
    )
    assert found.zram_bytes == 12289
    assert found.pressure == Pressure(1.5, 0.25)
    assert found.shm_bytes is None


def test_a_kernel_that_does_not_tell_what_is_available_is_estimated(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 2000 kB\nMemFree: 100 kB\nCached: 50 kB\n")
    assert machine(tmp_path).available_bytes == 150 * KIB


def test_a_system_without_proc_knows_nothing_and_fails_nowhere(tmp_path: Path) -> None:
    assert machine(tmp_path) == Machine()
    assert pressure(tmp_path) is None
    assert not set_oom_score_adj(7, 500, tmp_path)


def test_psi_that_is_switched_off_is_not_zero_but_unknown(tmp_path: Path) -> None:
    write(tmp_path, "proc/pressure/memory", "garbled\n")
    assert pressure(tmp_path) is None


def test_the_oom_score_is_written(tmp_path: Path) -> None:
    write(tmp_path, "proc/7/oom_score_adj", "0")
    assert set_oom_score_adj(7, 500, tmp_path)
    assert (tmp_path / "proc/7/oom_score_adj").read_text() == "500"


def test_a_gauge_reads_the_dear_figure_only_when_the_cheap_one_moved_or_it_is_old(tmp_path: Path) -> None:
    gauge = Gauge(tmp_path, age_seconds=30.0, moved_bytes=MIB)
    pages = MIB // PAGE_BYTES
    add_process(tmp_path, 7, 100, pages)
    assert gauge.size_bytes(7, 0.0) == 100 * KIB
    add_process(tmp_path, 7, 200, pages)
    assert gauge.size_bytes(7, 1.0) == 100 * KIB
    add_process(tmp_path, 7, 300, 2 * pages)
    assert gauge.size_bytes(7, 2.0) == 300 * KIB
    add_process(tmp_path, 7, 400, 2 * pages)
    assert gauge.size_bytes(7, 31.9) == 300 * KIB
    assert gauge.size_bytes(7, 32.0) == 400 * KIB


def test_a_gauge_forgets_who_is_gone(tmp_path: Path) -> None:
    gauge = Gauge(tmp_path)
    add_process(tmp_path, 7, 100, 900)
    assert gauge.tree_bytes(7, 0.0) == 100 * KIB
    (tmp_path / "proc/7/statm").unlink()
    assert gauge.size_bytes(7, 0.1) == 0
    add_process(tmp_path, 7, 555, 900)
    assert gauge.size_bytes(7, 0.2) == 555 * KIB
    add_process(tmp_path, 7, 777, 900)
    gauge.prune(61.0)
    assert gauge.size_bytes(7, 1.0) == 777 * KIB


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own figures are Linux's")
def test_this_process_has_a_size() -> None:
    assert MIB < pss_bytes(os.getpid()) <= rss_bytes(os.getpid()) + MIB
    assert machine().total_bytes
