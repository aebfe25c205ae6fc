"""`smol unit`: write a new unit; add, remove and reload units of a running host."""

from __future__ import annotations

import re
from pathlib import Path

import click

from smol.cli.output import print_result
from smol.cli.scaffold import LANGUAGES
from smol.cli.session import current_options, open_client
from smol.errors import AlreadyExists, InvalidArgument, NotFound
from smol.host.golang import sdk_directory
from smol.host.manifest import FILE_NAME

__all__ = ["unit"]

_BUILD_SECONDS = 900.0
"""A first build in Go compiles Go's own library, too."""


@click.group()
def unit() -> None:
    """Write a new unit; add, remove and reload units of the running host."""


@unit.command()
@click.argument("name")
@click.option(
    "--lang",
    type=click.Choice(sorted(LANGUAGES)),
    default="python",
    show_default=True,
    help="Language to write it in.",
)
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where (default: ./NAME).")
def new(name: str, lang: str, directory: Path | None) -> None:
    """Write a small unit that works, with its manifest and a test."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
        raise InvalidArgument(f"{name!r} can't name a unit: a small letter, then small letters, digits and '_'")
    home = directory or Path(name)
    if home.exists():
        raise AlreadyExists(f"{home} is there already: choose another --directory")
    files = LANGUAGES[lang](name)
    home.mkdir(parents=True)
    for file, text in files.items():
        (home / file).write_text(text)
        click.echo(f"wrote {home / file}")
    click.echo(f"\nsmol unit add {home}        # into a running host\nsmol {name} greet you")


@unit.command()
@click.argument("path", type=click.Path(path_type=Path))
def add(path: Path) -> None:
    """Load the unit in directory PATH into the running host; one in Go is built first.

    PATH may be the name of a unit that comes with Smol as source: files.
    """
    home = _home_of(path)
    with open_client(must_run=True) as client:
        client = client.within(max(current_options().within_seconds, _BUILD_SECONDS))
        print_result(client.call("lifecycle.add", {"path": str(home.absolute())}))


def _home_of(path: Path) -> Path:
    """The directory of a unit that is named by its path, or comes with Smol."""
    if path.is_dir():
        return path
    shipped = sdk_directory() / "cmd" / path
    if len(path.parts) == 1 and (shipped / FILE_NAME).is_file():
        return shipped
    raise NotFound(f"no directory {path}, and no unit of that name comes with Smol as source")


@unit.command()
@click.argument("name")
def remove(name: str) -> None:
    """Drain a unit of the running host and forget it."""
    with open_client(must_run=True) as client:
        client.call("lifecycle.remove", {"unit": name})


@unit.command()
@click.argument("name")
def reload(name: str) -> None:
    """Run the present code and manifest of a unit from the next call on."""
    with open_client(must_run=True) as client:
        print_result(client.call("lifecycle.reload", {"unit": name}))
