"""Cgroups on a fake kernel that keeps the rules of version 2; version 1 meets a real one in tests/e2e."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smol.cgroups import Group
from smol.errors import FailedPrecondition
from smol.host.cgroup import make_tree
from smol.host.enforcement import Guarantee, enforce, limit_process, scope_command

MIB = 1 << 20
OWN = "user.slice/smol.scope"


class Kernel:
    """Version 2 over a folder: control files appear as the parent shares them out, and a group with processes
    can't share out its controllers (Documentation/admin-guide/cgroup-v2.rst, "No Internal Process")."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, shared_to_own: bool = True) -> None:
        self.mount = root / "sys/fs/cgroup"
        self.own = self.mount / OWN
        for name, text in {
            "proc/self/cgroup": f"0::/{OWN}",
            "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.own.mkdir(parents=True)
        for group in (self.mount, self.own.parent, self.own):
            self.furnish(group, "memory pids")
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")
        if shared_to_own:
            (self.own.parent / "cgroup.subtree_control").write_text("memory pids")
        monkeypatch.setattr(Group, "make", lambda group: self.make(group.path))
        monkeypatch.setattr(Group, "remove_all", lambda group: self.remove(group.path))
        monkeypatch.setattr(Group, "write", lambda group, name, value: self.write(group.path, name, str(value)))

    def furnish(self, path: Path, controllers: str) -> None:
        for name, text in {
            "procs": "",
            "subtree_control": "",
            "controllers": controllers,
            "kill": "",
        }.items():
            if not (path / f"cgroup.{name}").exists():
                (path / f"cgroup.{name}").write_text(text)
        (path / "cgroup.controllers").write_text(controllers)
        if path == self.mount:  # The machine's own group knows neither limits nor a type.
            return
        (path / "cgroup.type").write_text("domain")
        if "memory" in controllers:
            for name, text in {"max": "max", "swap.max": "max", "current": "5000", "oom.group": "0"}.items():
                (path / f"memory.{name}").write_text(text)
        if "pids" in controllers:
            (path / "pids.max").write_text("max")

    def make(self, path: Path) -> None:
        path.mkdir()
        self.furnish(path, (path.parent / "cgroup.subtree_control").read_text())

    def remove(self, path: Path) -> bool:
        if not path.exists():
            return True
        if (path / "cgroup.procs").read_text().split() or any(p.is_dir() for p in path.iterdir()):
            return False
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        return True

    def write(self, path: Path, name: str, value: str) -> None:
        file = path / name
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file", str(file))
        if name == "cgroup.procs":
            if path != self.mount and (path / "cgroup.subtree_control").read_text().split():
                raise OSError(errno.EBUSY, "Device or resource busy")
            for procs in self.mount.rglob("cgroup.procs"):
                procs.write_text("".join(f"{p}\n" for p in procs.read_text().split() if p != value))
            file.write_text(file.read_text() + value + "\n")
        elif name == "cgroup.subtree_control":
            self.share_out(path, value[0] == "+", value[1:])
        elif name == "cgroup.kill":
            (path / "cgroup.procs").write_text("")
        else:
            file.write_text(value)

    def share_out(self, path: Path, on: bool, controller: str) -> None:
        shared = set((path / "cgroup.subtree_control").read_text().split())
        inner = [p for p in path.iterdir() if p.is_dir()]
        if on and path != self.mount and (path / "cgroup.procs").read_text().split():
            raise OSError(errno.EBUSY, "Device or resource busy")
        if on and controller not in (path / "cgroup.controllers").read_text().split():
            raise FileNotFoundError(errno.ENOENT, "No such controller")
        if not on and any(controller in (p / "cgroup.subtree_control").read_text().split() for p in inner):
            raise OSError(errno.EBUSY, "Device or resource busy")
        shared = shared | {controller} if on else shared - {controller}
        (path / "cgroup.subtree_control").write_text(" ".join(sorted(shared)))
        for group in inner:
            self.furnish(group, " ".join(sorted(shared)))


def test_a_delegated_scope_is_divided_and_put_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    tree = make_tree(512 * MIB, tmp_path)
    assert tree.top.path == kernel.own / f"smol-{os.getpid()}"
    assert (tree.top.path / "memory.max").read_text() == str(512 * MIB)
    assert (tree.top.path / "memory.swap.max").read_text() == "0"
    assert tree.host.pids() == [os.getpid()]
    assert tree.top.used_bytes() == 5000
    child = tree.child("a b/c", 64 * MIB)
    assert child.path.name == "unit-a-b-c"
    assert (child.path / "memory.max").read_text() == str(64 * MIB)
    assert (child.path / "memory.oom.group").read_text() == "1"
    assert (child.path / "pids.max").read_text() == "512"
    child.add(4242424)
    assert tree.remove()
    assert not tree.top.path.exists()
    assert (kernel.own / "cgroup.procs").read_text() == f"{os.getpid()}\n"
    assert (kernel.own / "cgroup.subtree_control").read_text() == ""


def test_a_session_with_other_processes_is_not_divided_but_root_goes_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    (kernel.own / "cgroup.procs").write_text(f"{os.getpid()}\n77\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FailedPrecondition, match=r"1 other processes.*systemd-run --user --scope"):
        make_tree(512 * MIB, tmp_path)
    assert not list(kernel.mount.rglob("smol-*"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tree = make_tree(512 * MIB, tmp_path)
    assert tree.top.path.parent == kernel.own.parent
    assert tree.remove()
    assert (kernel.own / "cgroup.procs").read_text() == f"77\n{os.getpid()}\n"
    assert (kernel.own.parent / "cgroup.subtree_control").read_text() == "memory pids"


def test_the_group_of_the_machine_is_divided_though_others_live_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    (tmp_path / "proc/self/cgroup").write_text("0::/")
    (kernel.own / "cgroup.procs").write_text("")
    (kernel.mount / "cgroup.procs").write_text(f"1\n77\n{os.getpid()}\n")
    tree = make_tree(512 * MIB, tmp_path)
    assert tree.top.path == kernel.mount / f"smol-{os.getpid()}"
    assert (tree.top.path / "memory.max").read_text() == str(512 * MIB)
    assert tree.remove()
    assert (kernel.mount / "cgroup.procs").read_text() == f"1\n77\n{os.getpid()}\n"
    assert not list(kernel.mount.rglob("smol-*"))


def test_a_read_only_mount_in_a_container_is_explained_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(tmp_path, monkeypatch)

    def refuse(group: Group) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Group, "make", refuse)
    with pytest.raises(FailedPrecondition, match="in a container"):
        make_tree(512 * MIB, tmp_path)


def test_a_failure_half_way_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    honest = kernel.write

    def write(path: Path, name: str, value: str) -> None:
        if name == "memory.max":
            raise PermissionError(errno.EACCES, "Permission denied")
        honest(path, name, value)

    monkeypatch.setattr(kernel, "write", write)
    with pytest.raises(FailedPrecondition, match="not ours to divide"):
        make_tree(512 * MIB, tmp_path)
    assert not list(kernel.mount.rglob("smol-*"))
    assert (kernel.own / "cgroup.procs").read_text() == f"{os.getpid()}\n"


def test_the_tree_of_a_dead_host_is_swept_and_that_of_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path, monkeypatch)
    for pid in (99999999, os.getppid()):
        (kernel.own / f"smol-{pid}/unit-x").mkdir(parents=True)
    tree = make_tree(512 * MIB, tmp_path)
    assert not (kernel.own / "smol-99999999").exists()
    assert (kernel.own / f"smol-{os.getppid()}/unit-x").exists()
    assert tree.host.pids() == [os.getpid()]


def test_figures_of_both_versions_are_read_by_their_own_names(tmp_path: Path) -> None:
    for name, text in {
        "memory.current": "9000",
        "memory.peak": "9500",
        "memory.stat": "anon 1\ninactive_file 1000\ntotal_inactive_file 3000\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "memory.usage_in_bytes": "8000",
        "memory.max_usage_in_bytes": "8500",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        "cgroup.procs": "1\n22\n",
    }.items():
        (tmp_path / name).write_text(text)
    new, old = Group(tmp_path, 2), Group(tmp_path, 1)
    assert (new.used_bytes(), new.peak_bytes(), new.oom_kills()) == (8000, 9500, 2)
    assert (old.used_bytes(), old.peak_bytes(), old.oom_kills()) == (5000, 8500, 4)
    assert new.pids() == [1, 22]
    gone = Group(tmp_path / "gone", 2)
    assert (gone.used_bytes(), gone.peak_bytes(), gone.oom_kills(), gone.pids()) == (None, None, None, [])
    assert gone.remove()


def test_version_1_lowers_memory_first_and_raises_memory_and_swap_first(tmp_path: Path) -> None:
    written: list[tuple[str, int | str]] = []

    class Recorder(Group):
        def write(self, name: str, value: int | str) -> None:
            written.append((name, value))
            super().write(name, value)

    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"):
        (tmp_path / name).write_text("100")
    Recorder(tmp_path, 1).set_limit(50)
    assert [name for name, _ in written[:2]] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    written.clear()
    (tmp_path / "memory.memsw.limit_in_bytes").write_text("50")
    Recorder(tmp_path, 1).set_limit(200)
    assert [name for name, _ in written[:2]] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    assert written[2] == ("memory.swappiness", 0)


def test_the_guarantee_is_named_honestly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    weaker = enforce(512 * MIB, tmp_path)
    assert (weaker.guarantee, weaker.tree) == (Guarantee.PROCESS, None)
    assert "no cgroup" in weaker.missing
    Kernel(tmp_path, monkeypatch)
    best = enforce(512 * MIB, tmp_path)
    assert (best.guarantee, best.missing) == (Guarantee.HARD, "")
    assert "version 2" in best.means
    monkeypatch.setattr("sys.platform", "darwin")
    nothing = enforce(512 * MIB, tmp_path)
    assert nothing.guarantee is Guarantee.NONE
    assert "run Smol on Linux" in nothing.missing
    assert limit_process(64 * MIB) is None


def test_a_scope_is_asked_for_only_where_a_user_manager_runs(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": "/run/user/1000", "PATH": "/usr/bin"}
    assert scope_command(["smol", "serve"], environment, tmp_path) is None
    (tmp_path / "run/user/1000/systemd/private").mkdir(parents=True)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/systemd-run").touch(mode=0o755)
    command = scope_command(["smol", "serve"], environment, tmp_path)
    assert command is not None
    assert command[:3] == ["systemd-run", "--user", "--scope"]
    assert command[-3:] == ["--", "smol", "serve"]
    assert scope_command(["smol", "serve"], {"PATH": "/usr/bin"}, tmp_path) is None
