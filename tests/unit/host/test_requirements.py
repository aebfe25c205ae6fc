from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smol.errors import InvalidArgument
from smol.host.requirements import missing, normalise


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, name: str, version: str, *metadata: str, direct_url: object = None) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))


def test_what_is_not_there_or_too_old_is_missing(site: Path) -> None:
    install(site, "tiny_thing", "1.5")
    wanted = ["tiny-thing", "Tiny.Thing>=1.5", "tiny_thing>=2", "tiny-thing==1.5.*", "absent_thing"]
    assert missing(wanted) == ["tiny-thing>=2", "absent-thing"]


def test_a_prerelease_that_is_there_counts(site: Path) -> None:
    install(site, "tiny", "2.0rc1")
    assert missing(["tiny>=1"]) == []
    assert missing(["tiny>=2"]) == ["tiny>=2"]


def test_a_requirement_of_another_platform_is_met() -> None:
    assert missing(["absent; sys_platform == 'other'", "absent; python_version >= '3'"]) == [
        'absent; python_version >= "3"'
    ]


def test_what_an_extra_adds_is_required_too(site: Path) -> None:
    install(
        site, "tiny", "1", "Provides-Extra: more", "Provides-Extra: all", "Requires-Dist: always-there",
        "Requires-Dist: deep[x]>=2; extra == 'more'", "Requires-Dist: tiny[more,all]; extra == 'all'",
    )  # fmt: skip
    assert missing(["tiny"]) == []
    assert missing(["tiny[more]"]) == ["tiny[more]"]
    assert missing(["tiny[all]"]) == ["tiny[all]"]
    install(site, "deep", "2", "Requires-Dist: deeper; extra == 'x'")
    assert missing(["tiny[all]"]) == ["tiny[all]"]
    install(site, "deeper", "1")
    assert missing(["tiny[more]", "tiny[all]"]) == []


def test_a_package_with_damaged_metadata_is_missing(site: Path) -> None:
    (site / "tiny-1.dist-info").mkdir()
    (site / "tiny-1.dist-info" / "METADATA").write_text("")
    install(site, "odd", "not-a-version")
    assert missing(["tiny", "odd>=1"]) == ["tiny", "odd>=1"]


@pytest.mark.parametrize(
    ("record", "requirement"),
    [
        ({"url": "file:///a%20b/tiny.whl", "archive_info": {}}, "tiny @ file:///a%20b/tiny.whl#sha256=00"),
        (
            {
                "url": "https://x.test/t.git",
                "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "0"},
            },
            "tiny @ git+https://x.test/t.git@v1",
        ),
    ],
)
def test_an_address_is_met_by_a_package_installed_from_there(site: Path, record: object, requirement: str) -> None:
    install(site, "tiny", "1", direct_url=record)
    assert missing([requirement]) == []
    assert missing(["tiny @ file:///other.whl"]) == ["tiny @ file:///other.whl"]


@pytest.mark.parametrize("record", [None, 3, {}, {"url": "x", "vcs_info": {}}])
def test_an_address_is_not_met_by_a_package_from_elsewhere(site: Path, record: object) -> None:
    install(site, "tiny", "1", direct_url=record)
    assert len(missing(["tiny @ file:///tiny.whl"])) == 1


def test_spelling_order_and_repeats_do_not_matter() -> None:
    assert normalise(["B.x >=1,<2", "a"]) == normalise(["a", "b-X<2,>=1", "A"]) == ("a", "b-x<2,>=1")


@pytest.mark.parametrize("text", ["", "-r other.txt", "--index-url=http://x", "a b", "a>=", "a;"])
def test_what_is_no_requirement_is_refused_with_its_text(text: str) -> None:
    for function in (missing, normalise):
        with pytest.raises(InvalidArgument) as caught:
            function([text])
        assert repr(text) in str(caught.value)


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, smol.host.environments; sys.exit('packaging' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
