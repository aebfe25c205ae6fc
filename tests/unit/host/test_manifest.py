from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import FailedPrecondition, InvalidArgument, NotFound
from smol.host.manifest import LARGEST_FILE_BYTES, Manifest

MINIMAL = '[unit]\nname = "math"\nclass = "pkg.mod:Math"\n'


def read(text: str) -> Manifest:
    return Manifest.from_toml(text, "unit.toml")


def test_a_minimal_manifest_has_the_defaults() -> None:
    manifest = read(MINIMAL)
    assert manifest == Manifest(name="math", class_path="pkg.mod:Math")
    assert (manifest.kind, manifest.worker, manifest.restart, manifest.version) == (
        "tool",
        "math",
        "on-demand",
        "0",
    )
    assert (manifest.concurrency, manifest.queue, manifest.max_restarts) == (4, 64, 5)
    assert (
        manifest.restart_period_seconds,
        manifest.start_timeout_seconds,
        manifest.stop_timeout_seconds,
    ) == (60, 30, 5)
    assert manifest.argv == ()


def test_a_full_manifest_is_read_from_its_directory(tmp_path: Path) -> None:
    (tmp_path / "unit.toml").write_text(
        """
        [unit]
        name = "detect"
        version = "1.2"
        kind = "neural"
        description = "Finds objects."
        class = "pkg.detect:Detect"
        worker = "vision"
        isolation = "worker"
        reserved_bytes = "24MiB"
        concurrency = 2
        queue = 8
        requirements = ["numpy>=1.26"]
        needs = ["storage"]
        restart = "always"
        max_restarts = 3
        restart_period_seconds = 10
        start_timeout_seconds = 1.5
        stop_timeout_seconds = 2
        permissions = ["network"]
        fallback = "classify"
        """
    )
    manifest = Manifest.from_directory(tmp_path)
    assert manifest == Manifest(
        name="detect", version="1.2", kind="neural", description="Finds objects.",
        class_path="pkg.detect:Detect", worker="vision", reserved_bytes=24 * 2**20, concurrency=2, queue=8,
        requirements=("numpy>=1.26",), needs=("storage",), restart="always", max_restarts=3,
        restart_period_seconds=10.0, start_timeout_seconds=1.5, stop_timeout_seconds=2.0,
        permissions=("network",), fallback="classify", path=tmp_path,
    )  # fmt: skip


def test_a_command_with_a_slash_is_taken_from_the_manifests_directory(tmp_path: Path) -> None:
    for command, expected in (
        ("./unit", f"{tmp_path}/unit"),
        ("python3", "python3"),
        ("/bin/cat", "/bin/cat"),
    ):
        (tmp_path / "unit.toml").write_text(f'[unit]\nname = "go"\ncommand = ["{command}", "-v"]\n')
        assert Manifest.from_directory(tmp_path).argv == (expected, "-v")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + 'command = ["./unit"]', "unit.toml:1: unit: give exactly one of `class`"),
        ('[unit]\nname = "math"', "unit.toml:1: unit: give exactly one of `class`"),
        ('[unit]\nname = "go"\ncommand = []', "unit.toml:1: unit: give exactly one of `class`"),
        ('[unit]\nclass = "a:B"', "unit.toml:1: unit: the key 'name' is missing"),
        ("", "unit.toml: the key 'unit' is missing"),
        (
            MINIMAL + "concurency = 3",
            "unit.toml:4: unit.concurency: unknown key (did you mean 'concurrency'?)",
        ),
        (MINIMAL + "class_path = 'a:B'", "unit.toml:4: unit.class_path: unknown key"),
        (MINIMAL + "path = '/etc'", "unit.toml:4: unit.path: unknown key"),
        (MINIMAL + "[units]", "unit.toml:4: units: unknown key (did you mean 'unit'?)"),
        (MINIMAL + "concurrency = 0", "unit.toml:4: unit.concurrency: expected `int` >= 1 (0)"),
        (MINIMAL + "concurrency = 1025", "unit.toml:4: unit.concurrency: expected `int` <= 1024 (1025)"),
        (MINIMAL + "concurrency = '4'", "unit.toml:4: unit.concurrency: expected `int`, got `str` ('4')"),
        (
            MINIMAL + "kind = 'nural'",
            "unit.toml:4: unit.kind: expected one of 'control', 'tool', 'neural', 'service'",
        ),
        (MINIMAL + "restart = 'on_demand'", "unit.toml:4: unit.restart: expected one of 'on-demand', "),
        (MINIMAL + "reserved_bytes = '24 megs'", "unit.toml:4: unit.reserved_bytes: expected a size"),
        (MINIMAL + "needs = 'storage'", "unit.toml:4: unit.needs: expected `array`, got `str` ('storage')"),
        (MINIMAL + "needs = ['math']", "unit.toml:1: unit: the unit 'math' cannot need itself"),
        (MINIMAL + "fallback = 'math'", "unit.toml:1: unit: the unit 'math' cannot be its own fallback"),
        (
            MINIMAL + "start_timeout_seconds = 0",
            "unit.toml:4: unit.start_timeout_seconds: expected `float` > 0",
        ),
        (MINIMAL + "start_timeout_seconds = nan", "unit.toml:4: unit.start_timeout_seconds"),
        (
            "[unit]\nname='go'\ncommand=['x']\nrequirements=['y']",
            "unit.toml:1: unit: `requirements` are for Python",
        ),
        ("[unit]\nname='m'\nclass='pkg.mod'", "unit.toml:3: unit.class: expected `str` matching regex"),
        ("[unit]\nname='m'\nclass='os; x:Y'", "unit.toml:3: unit.class: expected `str` matching regex"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_key(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["Math", "9math", "", "a" * 33, "a-b", "a.b", "math\\n", "mäth", "../x"])
def test_a_name_that_is_no_unit_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"unit\.name"):
        read(f'[unit]\nname = "{name}"\nclass = "a:B"')


def test_a_directory_without_a_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"unit\.toml does not exist"):
        Manifest.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"#" * (LARGEST_FILE_BYTES + 1), "longer than 256KiB"),
        (b"", "the key 'unit' is missing"),
        (b"\x00", "not valid TOML"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "unit.toml").write_bytes(data)
    with pytest.raises(InvalidArgument) as caught:
        Manifest.from_directory(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'unit.toml'}: ")
    assert message in str(caught.value)


def test_a_manifest_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unit.toml").mkdir()
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        Manifest.from_directory(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_an_invalid_argument(text: str) -> None:
    with pytest.raises(InvalidArgument):
        read(text)


@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "class", "command", "needs", "queue", "reserved_bytes", "worker", "path", "kind"]
        ),
        st.one_of(
            st.integers(), st.booleans(), st.just('"a"'), st.just("[]"), st.just('["a"]'), st.just("{a = 1}")
        ),
    )
)
def test_wrong_types_never_escape_as_another_error(table: dict[str, object]) -> None:
    lines = [f"{key} = {str(value).lower()}" for key, value in table.items()]
    try:
        manifest = read("[unit]\n" + "\n".join(lines))
    except InvalidArgument:
        return
    assert manifest.name == "a"
    assert manifest.command == ("a",)
