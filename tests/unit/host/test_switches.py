from __future__ import annotations

from pathlib import Path

import pytest

from smol.errors import FailedPrecondition, Internal, Unavailable
from smol.host.switches import Switches


def test_a_disabled_unit_stays_so_and_says_how_to_enable_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "disabled.json"
    Switches(path).disable("math")
    switches = Switches(path)
    refusal = switches.refusal("math")
    assert isinstance(refusal, FailedPrecondition)
    assert "smol enable math" in refusal.message
    assert switches.refusal("detect") is None
    switches.enable("math")
    assert switches.refusal("math") is None
    assert Switches(path).refusal("math") is None


def test_a_drained_unit_is_so_until_it_is_started_or_the_host_ends(tmp_path: Path) -> None:
    switches = Switches(tmp_path / "disabled.json")
    switches.drain(["math", "tables"])
    assert isinstance(switches.refusal("tables"), Unavailable)
    switches.resume(["tables"])
    assert switches.refusal("tables") is None
    assert "smol start math" in str(switches.refusal("math"))
    assert Switches(tmp_path / "disabled.json").refusal("math") is None


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}'])
def test_a_damaged_file_disables_nothing_and_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "disabled.json"
    path.write_text(content)
    switches = Switches(path)
    assert switches.disabled == set()
    assert str(path) in switches.problem


def test_what_can_not_be_kept_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    switches = Switches(tmp_path / "file" / "disabled.json")
    with pytest.raises(Internal, match="nothing has changed"):
        switches.disable("math")
    assert switches.refusal("math") is None
