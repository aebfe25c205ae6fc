"""What can be used is documented, and what is documented is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest

import smol
from smol.cli.errors import EXIT_STATUS
from smol.cli.main import COMMANDS
from smol.cli.main import smol as command_line
from smol.errors import CODES, SmolError

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
"""What looks like a link and is none: `Call[Out](ctx)`."""


def test_every_command_explains_itself() -> None:
    context = click.Context(command_line)
    for name in COMMANDS:
        command = command_line.get_command(context, name)
        assert command is not None
        assert command.help, name
        for parameter in command.params:
            hidden = isinstance(parameter, click.Option) and parameter.hidden
            assert hidden or isinstance(parameter, click.Argument) or getattr(parameter, "help", None), (
                name,
                parameter,
            )


def test_every_status_code_has_an_exit_status() -> None:
    assert set(EXIT_STATUS) == {*CODES, SmolError.code}
    assert all(0 < status < 126 for status in EXIT_STATUS.values())


def test_the_error_tree_at_the_top_of_the_module_is_complete() -> None:
    import smol.errors

    assert smol.errors.__doc__ is not None
    for code, kind in CODES.items():
        assert re.search(rf"── {kind.__name__} +{code} ", smol.errors.__doc__), code


def test_the_changelog_knows_this_version() -> None:
    assert f"## {smol.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{smol.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(CODE.sub("", page.read_text())):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_decisions_are_short() -> None:
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        assert len(page.read_text().splitlines()) <= 60, page.name


@pytest.mark.e2e
def test_the_generated_pages_are_up_to_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMOL_HOME", str(tmp_path))
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    for path, text in pages.items():
        assert path.read_text() == text, f"{path.name} is out of date: run 'make docs'"
