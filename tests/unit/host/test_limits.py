"""Machines as fixture trees of /proc and /sys/fs/cgroup: what limit is found and what budget follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from smol.host.limits import Hierarchy, choose_budget, find_hierarchy, find_limit, without_cgroup

MIB = 1 << 20
GIB = 1 << 30
V1_UNLIMITED = "9223372036854771712"
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "33 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


def build(root: Path, files: dict[str, str], *, total_mib: int = 8192) -> Path:
    meminfo = f"MemTotal: {total_mib * 1024} kB\nMemFree: 1 kB\nMemAvailable: {total_mib * 512} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def version_2(path: str, limits: dict[str, str], controllers: str = "cpu memory pids") -> dict[str, str]:
    """A machine with version 2 only; limits: value of memory.max by group."""
    files = {
        "proc/self/cgroup": f"0::{path}",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/cgroup.controllers": controllers,
        f"sys/fs/cgroup{path}/cgroup.controllers": controllers,
    }
    return files | {f"sys/fs/cgroup{group}/memory.max": value for group, value in limits.items()}


def version_1(path: str, limits: dict[str, str]) -> dict[str, str]:
    files = {
        "proc/self/cgroup": f"9:name=systemd:/\n4:memory:{path}\n3:cpu,cpuacct:/\n0::/",
        "proc/self/mountinfo": V1_MOUNT,
        f"sys/fs/cgroup/memory{path}/memory.stat": "cache 1\nhierarchical_memory_limit " + V1_UNLIMITED,
    }
    return files | {f"sys/fs/cgroup/memory{group}/memory.limit_in_bytes": value for group, value in limits.items()}


def test_a_plain_machine_has_no_limit_and_gets_the_default(tmp_path: Path) -> None:
    root = build(tmp_path, version_2("/user.slice", {"/user.slice": "max"}))
    assert find_limit(root) is None
    assert choose_budget(None, root).bytes == 2048 * MIB
    assert choose_budget(None, root).reason == "the default"
    assert choose_budget(700 * MIB, root).reason == "as configured"


def test_a_limit_of_version_2_is_found_and_named(tmp_path: Path) -> None:
    root = build(tmp_path, version_2("/box", {"/box": str(512 * MIB)}))
    budget = choose_budget(None, root)
    assert budget.bytes == 512 * MIB
    assert budget.reason == "memory.max of the cgroup /box allows no more (2048 MiB were the default)"


def test_the_tightest_of_nested_limits_counts_wherever_it_is(tmp_path: Path) -> None:
    limits = {"/a": str(300 * MIB), "/a/b": "max", "/a/b/c": str(400 * MIB)}
    limit = find_limit(build(tmp_path, version_2("/a/b/c", limits)))
    assert limit is not None
    assert (limit.bytes, limit.where) == (300 * MIB, "memory.max of the cgroup /a")


def test_the_mark_where_the_kernel_begins_to_throttle_counts_as_a_limit(tmp_path: Path) -> None:
    files = version_2("/a", {"/a": "max"}) | {"sys/fs/cgroup/a/memory.high": str(200 * MIB)}
    limit = find_limit(build(tmp_path, files))
    assert limit is not None
    assert limit.where == "memory.high of the cgroup /a"


def test_a_container_with_a_namespace_sees_its_limit_at_the_top(tmp_path: Path) -> None:
    root = build(tmp_path, version_2("/", {"/": str(256 * MIB)}))
    limit = find_limit(root)
    assert limit is not None
    assert (limit.bytes, limit.where) == (256 * MIB, "memory.max of the cgroup /")


def test_a_limit_of_version_1_is_found(tmp_path: Path) -> None:
    root = build(tmp_path, version_1("/box", {"/box": str(512 * MIB), "": V1_UNLIMITED}))
    assert find_hierarchy(root) == Hierarchy(
        1, tmp_path / "sys/fs/cgroup/memory", tmp_path / "sys/fs/cgroup/memory/box"
    )
    assert choose_budget(None, root).bytes == 512 * MIB


def test_version_1_without_a_limit_has_none(tmp_path: Path) -> None:
    assert find_limit(build(tmp_path, version_1("/box", {"/box": V1_UNLIMITED}))) is None


def test_docker_on_version_1_sees_itself_at_the_top_of_the_mount(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/docker/0123abc",
        "proc/self/mountinfo": V1_MOUNT.replace(" / ", " /docker/0123abc "),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(128 * MIB),
    }
    limit = find_limit(build(tmp_path, files))
    assert limit is not None
    assert limit.bytes == 128 * MIB


def test_a_limit_that_only_the_outer_groups_have_is_seen_in_memory_stat(tmp_path: Path) -> None:
    files = version_1("/box", {"/box": V1_UNLIMITED})
    files["sys/fs/cgroup/memory/box/memory.stat"] = f"cache 5\nhierarchical_memory_limit {64 * MIB}"
    limit = find_limit(build(tmp_path, files))
    assert limit is not None
    assert (limit.bytes, limit.where) == (64 * MIB, "a limit of an outer cgroup")


def test_a_hybrid_mount_uses_whichever_version_has_the_memory_controller(tmp_path: Path) -> None:
    mounts = V1_MOUNT + "\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    files = version_1("/box", {"/box": str(99 * MIB)}) | {
        "proc/self/mountinfo": mounts,
        "sys/fs/cgroup/unified/cgroup.controllers": "hugetlb",
    }
    hierarchy = find_hierarchy(build(tmp_path / "old", files))
    assert hierarchy is not None
    assert hierarchy.version == 1
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/x\n0::/x",
        "proc/self/mountinfo": "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
        "sys/fs/cgroup/unified/x/cgroup.controllers": "memory",
        "sys/fs/cgroup/unified/x/memory.max": str(77 * MIB),
    }
    root = build(tmp_path / "new", files)
    hierarchy = find_hierarchy(root)
    assert hierarchy is not None
    assert hierarchy.version == 2
    limit = find_limit(root)
    assert limit is not None
    assert limit.bytes == 77 * MIB


def test_a_group_outside_of_the_namespace_is_read_at_the_mount(tmp_path: Path) -> None:
    files = version_2("/", {"/": str(88 * MIB)}) | {"proc/self/cgroup": "0::/../other"}
    hierarchy = find_hierarchy(build(tmp_path, files))
    assert hierarchy is not None
    assert hierarchy.own == hierarchy.mount


def test_lxc_without_a_visible_limit_is_measured_by_lxcfs(tmp_path: Path) -> None:
    files = version_2("/", {"/": "max"})
    files["proc/self/mountinfo"] += "\n99 23 0:50 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw"
    budget = choose_budget(None, build(tmp_path, files, total_mib=1024))
    assert budget.bytes == 896 * MIB
    assert budget.reason.startswith("this container has 1024 MiB")


@pytest.mark.parametrize(
    ("total_mib", "expected_mib"), [(512, 384), (1024, 896), (1849, 1617), (2048, 1792), (8192, 2048)]
)
def test_a_small_machine_keeps_something_for_the_rest_of_the_system(
    tmp_path: Path, total_mib: int, expected_mib: int
) -> None:
    root = build(tmp_path, version_2("/", {}), total_mib=total_mib)
    assert choose_budget(None, root).bytes // MIB == expected_mib


def test_a_mount_point_with_a_blank_is_found(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/",
        "proc/self/mountinfo": V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/c\\040group"),
        "sys/fs/c group/cgroup.controllers": "memory",
        "sys/fs/c group/memory.max": str(MIB),
    }
    limit = find_limit(build(tmp_path, files))
    assert limit is not None
    assert limit.bytes == MIB


def test_a_raspberry_pi_without_the_memory_cgroup_is_told_which_line_to_change(tmp_path: Path) -> None:
    files = version_2("/", {}, controllers="cpu pids") | {
        "proc/cmdline": "console=tty1 cgroup_disable=memory root=/dev/mmcblk0p2",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    }
    root = build(tmp_path, files, total_mib=1849)
    assert find_hierarchy(root) is None
    assert choose_budget(None, root).bytes < 1849 * MIB
    assert "cgroup_enable=memory cgroup_memory=1" in without_cgroup(root)


def test_an_older_kernel_says_in_proc_cgroups_that_it_is_off(tmp_path: Path) -> None:
    table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t75\t0"
    root = build(tmp_path, version_2("/", {}, "cpu") | {"proc/cgroups": table})
    assert "remove cgroup_disable=memory" in without_cgroup(root)


def test_a_group_that_was_not_given_the_controller_says_so(tmp_path: Path) -> None:
    files = version_2("/user.slice/me", {}, "cpu")
    root = build(tmp_path, files)
    assert find_hierarchy(root) is None
    assert "let its parent delegate it" in without_cgroup(root)


def test_a_system_without_cgroups_or_without_proc_fails_nowhere(tmp_path: Path) -> None:
    assert without_cgroup(tmp_path) == "this system has no cgroups"
    assert find_limit(tmp_path) is None
    assert choose_budget(None, tmp_path).bytes == 2 * GIB
    assert "is mounted" in without_cgroup(build(tmp_path, {}))
