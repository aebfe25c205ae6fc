from __future__ import annotations

from pathlib import Path

import pytest

from smol.cgroups import Group
from smol.errors import FailedPrecondition
from smol.sandbox.cgroup import Cell, find_parent


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_memory_controller_it_says_so(tmp_path: Path) -> None:
    root = lay(tmp_path, {"proc/self/cgroup": "1:cpu:/\n"})
    with pytest.raises(FailedPrecondition, match="no memory cgroup"):
        find_parent(root)


def test_read_only_groups_say_what_would_help(tmp_path: Path) -> None:
    """As in Docker's defaults: the files are there, and nothing can be made."""
    root = lay(tmp_path, {"proc/self/cgroup": "4:memory:/gone\n"})
    with pytest.raises(FailedPrecondition, match="systemd-run"):
        find_parent(root)


def test_counters_of_both_versions_are_read(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {"1/memory.oom_control": "oom_kill_disable 0\noom_kill 2\n", "1/memory.max_usage_in_bytes": "4096\n"},
    )
    lay(
        tmp_path,
        {"2/memory.events": "low 0\noom 3\noom_kill 1\n", "2/memory.peak": "8192\n", "2/pids.events": "max 5\n"},
    )
    old, new = Group(tmp_path / "1", 1), Group(tmp_path / "2", 2)
    assert (Cell(old, None).oom_kills(), Cell(old, None).peak_bytes()) == (2, 4096)
    assert (Cell(new, new).oom_kills(), Cell(new, new).peak_bytes()) == (1, 8192)
    assert (Cell(new, new).refused_processes(), Cell(old, None).refused_processes()) == (5, 0)


def test_limits_are_written_and_no_file_is_made_up(tmp_path: Path) -> None:
    lay(tmp_path, {"memory.max": "max\n", "pids.max": "max\n"})
    group = Group(tmp_path, 2)
    Cell(group, group).limit(1 << 20, 7)
    assert (tmp_path / "memory.max").read_text().startswith("1048576")
    assert (tmp_path / "pids.max").read_text().startswith("7")
    assert not (tmp_path / "memory.oom.group").exists()


def test_files_read_again_and_again_for_want_of_memory_are_noticed(tmp_path: Path) -> None:
    def stat(kept: int, read_again: int) -> None:
        lay(
            tmp_path,
            {"memory.stat": f"inactive_file {kept}\nactive_file 4096\nworkingset_refault_file {read_again}\n"},
        )

    cell = Cell(Group(tmp_path, 1), None)
    assert not cell.thrashes(), "without figures"
    stat(512 << 10, 4 << 10)
    assert cell.thrashes(), "16 MiB were read to have half of one"
    assert not cell.thrashes(), "none since"
    stat(512 << 10, 5 << 10)
    assert not cell.thrashes(), "4 MiB since: no harm"
    stat(100 << 20, 50 << 10)
    assert not cell.thrashes(), "a file that is larger than the limit, read over and over"
