from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from smol.errors import Cancelled, DataLoss, InvalidArgument, ResourceExhausted, Unavailable
from smol.models import Asset, Store


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Waits:
    """A sleep that takes no time and remembers what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def store(tmp_path: Path, server: Any, waits: Waits) -> Store:
    return Store(tmp_path / "store", mirror=server.url, wait=waits)


def visible(store: Store) -> list[str]:
    return sorted(path.name for path in store.directory.glob("[!.]*"))


def test_a_file_is_fetched_once_and_progress_is_told(
    store: Store, server: Any, asset: Asset, content: bytes
) -> None:
    told: list[tuple[int, int]] = []
    path = store.obtain(asset, progress=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == content
    assert told[-1] == (asset.bytes, asset.bytes)
    assert told == sorted(told)
    assert store.obtain(asset) == path
    assert len(server.ranges) == 1


def test_a_broken_connection_is_resumed_where_it_broke(
    store: Store, server: Any, asset: Asset, content: bytes, waits: Waits
) -> None:
    server.cut = [300_000, 300_000]
    assert store.obtain(asset).read_bytes() == content
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert len(waits.seconds) == 2


def test_what_came_is_kept_for_the_next_call(store: Store, server: Any, asset: Asset, content: bytes) -> None:
    server.cut = [100_000] * 4
    with pytest.raises(Unavailable, match="broke off after 400000 of 1048576"):
        store.obtain(asset)
    assert visible(store) == []
    assert store.obtain(asset).read_bytes() == content
    assert server.ranges[-1] == "bytes=400000-"


def test_a_server_that_can_not_resume_starts_over(store: Store, server: Any, asset: Asset, content: bytes) -> None:
    server.cut, server.resumes = [300_000], False
    assert store.obtain(asset).read_bytes() == content


def test_a_leftover_of_another_version_is_thrown_away(
    store: Store, server: Any, asset: Asset, content: bytes
) -> None:
    store.directory.mkdir()
    (store.directory / f".{asset.sha256[:16]}.part").write_bytes(b"?" * 500_000)
    assert store.obtain(asset).read_bytes() == content
    assert server.ranges == ["bytes=500000-", None]


def test_a_leftover_longer_than_what_the_server_has_is_thrown_away(
    store: Store, server: Any, asset: Asset
) -> None:
    store.directory.mkdir()
    server.files["/net.onnx"] = b"short"
    (store.directory / f".{asset.sha256[:16]}.part").write_bytes(b"?" * 500_000)
    with pytest.raises(DataLoss, match="5 bytes instead of 1048576"):
        store.obtain(asset)


def test_a_swapped_file_is_refused_with_both_hashes(
    store: Store, server: Any, asset: Asset, content: bytes
) -> None:
    other = server.files["/net.onnx"] = content[::-1]
    with pytest.raises(DataLoss, match=f"expected sha256 {asset.sha256}, found {sha256(other)}") as caught:
        store.obtain(asset)
    assert caught.value.details == {"expected": asset.sha256, "found": sha256(other)}
    assert visible(store) == []


@pytest.mark.parametrize("offset", [-1000, 1000])
def test_a_server_that_announces_another_length_is_refused(
    store: Store, server: Any, asset: Asset, offset: int
) -> None:
    server.length_offset = offset
    with pytest.raises(DataLoss, match=f"{asset.bytes + offset} bytes instead of {asset.bytes}"):
        store.obtain(asset)
    assert visible(store) == []


def test_a_server_that_announces_more_than_it_sends_leaves_nothing_half(
    store: Store, server: Any, asset: Asset, content: bytes
) -> None:
    server.files["/net.onnx"], server.length_offset = content[:-7], 7
    with pytest.raises(Unavailable, match="has fewer than 1048569 bytes"):
        store.obtain(asset)
    assert visible(store) == []


def test_a_missing_file_and_a_failing_server_are_told(store: Store, server: Any, asset: Asset) -> None:
    server.files.clear()
    with pytest.raises(Unavailable, match="404"):
        store.obtain(asset)
    server.status = 503
    with pytest.raises(Unavailable, match="503"):
        store.obtain(asset)


def test_offline_says_what_to_do(tmp_path: Path, asset: Asset) -> None:
    store = Store(tmp_path, mirror="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="Go online, or set SMOL_MODEL_MIRROR"):
        store.obtain(asset)


def test_a_file_on_no_public_server_says_that_a_mirror_is_needed(tmp_path: Path, asset: Asset) -> None:
    with pytest.raises(Unavailable, match=r"no public server: set SMOL_MODEL_MIRROR .* net\.onnx"):
        Store(tmp_path).obtain(asset)


@pytest.mark.parametrize("as_url", [False, True])
def test_a_directory_is_a_mirror_with_its_subdirectories(
    tmp_path: Path, asset: Asset, content: bytes, as_url: bool
) -> None:
    deep = tmp_path / "my models" / "detect"
    deep.mkdir(parents=True)
    (deep / "net.onnx").write_bytes(content)
    mirror = (tmp_path / "my models").as_uri() if as_url else str(tmp_path / "my models")
    store = Store(tmp_path / "store", mirror=mirror)
    assert store.obtain(asset).read_bytes() == content
    assert store.directory in store.obtain(asset).parents


def test_a_directory_without_the_file_leaves_the_catalogs_mirrors(
    tmp_path: Path, server: Any, asset: Asset, content: bytes
) -> None:
    (tmp_path / "empty").mkdir()
    public = Asset(file=asset.file, sha256=asset.sha256, bytes=asset.bytes, mirrors=(f"{server.url}/net.onnx",))
    store = Store(tmp_path / "store", mirror=str(tmp_path / "empty"))
    assert store.obtain(public).read_bytes() == content


def test_the_next_mirror_serves_when_the_first_has_another_file(
    tmp_path: Path, server: Any, asset: Asset, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["/bad/net.onnx"] = content[::-1]
    public = Asset(
        file=asset.file,
        sha256=asset.sha256,
        bytes=asset.bytes,
        mirrors=(f"{server.url}/bad/net.onnx", f"{server.url}/net.onnx"),
    )
    with caplog.at_level(logging.WARNING):
        assert Store(tmp_path / "store").obtain(public).read_bytes() == content
    assert "wrong content" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"truncated", None])
def test_a_damaged_file_in_the_store_is_never_handed_out(
    store: Store, server: Any, asset: Asset, content: bytes, damage: bytes | None
) -> None:
    path = store.obtain(asset)
    path.write_bytes(content[::-1] if damage is None else damage)
    server.status = 503
    with pytest.raises(DataLoss, match=f"expected sha256 {asset.sha256}, found"):
        store.obtain(asset)
    server.status = 0
    assert store.obtain(asset).read_bytes() == content


def test_an_embedded_file_comes_from_the_package_and_is_checked_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    embedded = Asset(file="net.onnx", sha256=sha256(content), bytes=len(content), embedded=True)
    store = Store(tmp_path / "store", embedded=tmp_path)
    assert store.is_present(embedded)
    assert store.obtain(embedded) == tmp_path / "net.onnx"
    (tmp_path / "net.onnx").write_bytes(content[1:])
    with pytest.raises(DataLoss, match="install the package again"):
        store.obtain(embedded)
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(DataLoss, match="no file"):
        store.obtain(embedded)


def test_two_that_want_the_same_file_fetch_it_once(store: Store, server: Any, asset: Asset) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(store.obtain(asset))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(server.ranges) == 1


def test_whoever_waits_for_another_maker_can_give_up(store: Store, asset: Asset, waits: Waits) -> None:
    store.directory.mkdir()
    with open(store.directory / f".{asset.file}.lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Cancelled):
            store.obtain(asset, cancelled=lambda: len(waits.seconds) >= 3)


def test_a_fetch_that_is_given_up_is_resumed_later(
    store: Store, server: Any, asset: Asset, content: bytes
) -> None:
    done = [0]
    with pytest.raises(Cancelled):
        store.obtain(
            asset,
            progress=lambda now, total: done.__setitem__(0, now),
            cancelled=lambda: done[0] > 0,
        )
    assert store.obtain(asset).read_bytes() == content
    assert server.ranges[1] == f"bytes={done[0]}-"


def test_a_scheme_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="ftp://models"):
        Store(tmp_path, mirror="ftp://models")


def test_a_full_disk_is_told(store: Store, asset: Asset) -> None:
    store.directory.mkdir()
    (store.directory / f".{asset.sha256[:16]}.part").symlink_to("/dev/full")
    with pytest.raises(ResourceExhausted, match="free some disk"):
        store.obtain(asset)


def test_a_store_that_can_not_be_made_is_told(tmp_path: Path, asset: Asset) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="can't be made"):
        Store(tmp_path / "file" / "store").obtain(asset)


def filled(tmp_path: Path) -> tuple[Store, list[Asset]]:
    """Three files of 10 bytes, used in the order a, b, c."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    store, assets = Store(tmp_path / "store", mirror=str(mirror)), []
    for age, name in enumerate("abc"):
        data = name.encode() * 10
        (mirror / name).write_bytes(data)
        assets.append(Asset(file=name, sha256=sha256(data), bytes=10))
        os.utime(store.obtain(assets[-1]), (age + 1, age + 1))
    return store, assets


def test_contents_are_listed_last_used_first(tmp_path: Path) -> None:
    store, assets = filled(tmp_path)
    assert [item.file for item in store.contents()] == ["c", "b", "a"]
    store.obtain(assets[0])
    assert next((item.file, item.bytes, item.pinned) for item in store.contents()) == ("a", 10, False)


def test_pruning_takes_the_least_recently_used_until_the_rest_fits(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    assert [item.file for item in store.prune(20)] == ["a"]
    assert [item.file for item in store.prune()] == ["b", "c"]
    assert store.contents() == []


def test_what_is_pinned_stays_until_it_is_unpinned(tmp_path: Path) -> None:
    store, assets = filled(tmp_path)
    store.pin(assets[0])
    store.prune()
    assert [(item.file, item.pinned) for item in store.contents()] == [("a", True)]
    store.unpin(assets[0])
    store.unpin(assets[0])
    assert [item.file for item in store.prune()] == ["a"]


def test_pruning_removes_unfinished_downloads(store: Store, server: Any, asset: Asset) -> None:
    server.cut = [100_000] * 4
    with pytest.raises(Unavailable):
        store.obtain(asset)
    assert list(store.directory.glob(".*.part"))
    store.prune()
    assert not list(store.directory.glob(".*.part"))


def test_the_mirror_is_taken_from_the_environment(
    tmp_path: Path, asset: Asset, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    monkeypatch.setenv("SMOL_MODEL_MIRROR", str(tmp_path))
    assert Store.from_environment(tmp_path / "store").obtain(asset).read_bytes() == content
    monkeypatch.delenv("SMOL_MODEL_MIRROR")
    assert Store.from_environment(tmp_path / "store").sources(asset) == []
