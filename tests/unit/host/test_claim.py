from __future__ import annotations

from pathlib import Path

import pytest

from smol.errors import AlreadyExists, FailedPrecondition
from smol.host.claim import Claim


def test_a_socket_belongs_to_one_host_at_a_time(tmp_path: Path) -> None:
    first = Claim(tmp_path / "s")
    with pytest.raises(AlreadyExists, match="already listening"):
        Claim(tmp_path / "s")
    first.release()
    Claim(tmp_path / "s").release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "s.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPrecondition, match="lock file"):
        Claim(tmp_path / "s")
    assert not (tmp_path / "elsewhere").exists()
