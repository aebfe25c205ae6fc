from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from smol.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from smol.locations import check_socket_path, locate, own_directory


def test_one_variable_puts_everything_into_one_directory() -> None:
    places = locate({"SMOL_HOME": "/srv/smol", "XDG_RUNTIME_DIR": "/run/user/7"})
    assert places.socket == Path("/srv/smol/run/smol.sock")
    assert {places.data, places.state, places.cache, places.runtime} == {
        Path("/srv/smol") / name for name in ("data", "state", "cache", "run")
    }


def test_the_customs_of_the_platform_hold_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", f"/xdg/{name}")
    places = locate({})
    assert (places.data, places.state, places.cache) == (
        Path("/xdg/DATA/smol"), Path("/xdg/STATE/smol"), Path("/xdg/CACHE/smol"),
    )  # fmt: skip


def test_the_socket_is_in_the_session_else_the_system_else_a_directory_of_the_user() -> None:
    temporary = Path(tempfile.gettempdir())
    assert locate({"XDG_RUNTIME_DIR": "/run/user/7"}).socket == Path("/run/user/7/smol/smol.sock")
    assert locate({}, user_id=0).socket == Path("/run/smol/smol.sock")
    assert locate({}, user_id=7).socket == temporary / "smol-7" / "smol.sock"
    assert locate({"SMOL_SOCKET": "/x.sock"}).socket == Path("/x.sock")


def test_a_socket_path_longer_than_the_system_allows_is_refused_with_its_length() -> None:
    assert check_socket_path(Path("/" + "a" * 106))
    with pytest.raises(InvalidArgument, match=r"108 bytes and the system allows 107.*SMOL_SOCKET"):
        check_socket_path(Path("/" + "a" * 107))
    with pytest.raises(InvalidArgument):
        check_socket_path(Path("/" + "ä" * 54))


def test_a_new_directory_is_the_users_alone(tmp_path: Path) -> None:
    made = own_directory(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700
    assert own_directory(made) == made


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionDenied, match="chmod 700"):
        own_directory(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionDenied, match="symbolic link"):
        own_directory(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(PermissionDenied, match="belongs to user 12345"):
        own_directory(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(FailedPrecondition, match="not a directory"):
        own_directory(tmp_path / "x")
    with pytest.raises(FailedPrecondition):
        own_directory(tmp_path / "x" / "y")
