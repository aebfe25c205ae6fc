from __future__ import annotations

import os
from pathlib import Path

from smol.sandbox.folders import count, remove_tree
from smol.sandbox.products import collect
from smol.sandbox.records import Limits


def collected(
    folder: Path, given: dict[str, bytes] | None = None, **limits: int
) -> tuple[dict[str, bytes], list[str]]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        products, left_out = collect(descriptor, given or {}, Limits(**limits))
    finally:
        os.close(descriptor)
    return {product.name: product.data for product in products}, left_out


def test_plain_files_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_text("x")
    assert collected(tmp_path) == ({"a/b.txt": b"x"}, [])


def test_what_was_given_comes_back_only_when_it_changed(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("x")
    (tmp_path / "other").write_text("new")
    assert collected(tmp_path, {"same": b"x", "other": b"old"})[0] == {"other": b"new"}


def test_links_pipes_and_second_names_are_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to(secret)
    (work / "folder").symlink_to(tmp_path)
    os.link(secret, work / "second")
    os.mkfifo(work / "pipe")
    found, left_out = collected(work)
    assert found == {}
    assert len(left_out) == 4


def test_names_that_could_harm_a_terminal_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J").write_text("x")
    assert collected(tmp_path) == ({}, ["?[2J: its name is not printable text"])


def test_sizes_and_numbers_are_bounded(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}").write_bytes(b"x" * 100)
    assert len(collected(tmp_path, artifacts=3)[0]) == 3
    assert len(collected(tmp_path, artifact_bytes=250)[0]) == 2
    with (tmp_path / "0").open("wb") as file:
        file.truncate(1 << 40)
    assert "0" not in collected(tmp_path)[0]


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(str(top))
    assert not top.exists()


def test_what_grows_too_large_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 100_000)
    assert count(str(tmp_path), 1 << 20, 10)
    assert not count(str(tmp_path), 1 << 12, 10)
    assert not count(str(tmp_path), 1 << 20, 0)
