"""`smol unit`: write a new unit; add, remove and reload units of a running host."""

from __future__ import annotations

import re
from pathlib import Path

import click

from smol.cli.output import print_result
from smol.cli.session import open_client
from smol.errors import AlreadyExists, InvalidArgument

__all__ = ["unit"]

_MANIFEST = """\
[unit]
name = "{name}"
class = "{name}:{title}"
description = "Greets people."
"""

_CODE = '''\
"""The unit `{name}`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from smol.sdk import Unit, operation


class Greeting(msgspec.Struct, frozen=True):
    """What is said, and how often."""

    text: str
    times: int


class {title}(Unit):
    """Greets people."""

    @operation(read_only=True)
    async def greet(self, name: str, times: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1) -> Greeting:
        """Greet somebody.

        name: whom to greet.
        times: how often.
        """
        return Greeting(", ".join([f"hello {{name}}"] * times), times)
'''

_TEST = '''\
"""Run with `pytest`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import smol
from smol.errors import InvalidArgument

from {name} import {title}

HERE = Path(__file__).parent


def test_it_greets() -> None:
    assert asyncio.run({title}().greet("you", 2)).text == "hello you, hello you"


def test_it_greets_through_a_host(tmp_path: Path) -> None:
    settings = {{"SMOL_HOME": str(tmp_path), "SMOL_HOST_UNIT_DIRECTORIES": str(HERE)}}
    with smol.local(settings) as s:
        assert s.{name}.greet("you")["text"] == "hello you"
        with pytest.raises(InvalidArgument):
            s.{name}.greet("you", times=11)
'''


@click.group()
def unit() -> None:
    """Write a new unit; add, remove and reload units of the running host."""


@unit.command()
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where (default: ./NAME).")
def new(name: str, directory: Path | None) -> None:
    """Write a small unit that works, with its manifest and a test."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
        raise InvalidArgument(f"{name!r} can't name a unit: a small letter, then small letters, digits and '_'")
    home = directory or Path(name)
    if home.exists():
        raise AlreadyExists(f"{home} is there already: choose another --directory")
    home.mkdir(parents=True)
    words = {"name": name, "title": name.title().replace("_", "")}
    for file, text in (("unit.toml", _MANIFEST), (f"{name}.py", _CODE), (f"test_{name}.py", _TEST)):
        (home / file).write_text(text.format(**words))
        click.echo(f"wrote {home / file}")
    click.echo(f"\nsmol unit add {home}        # into a running host\nsmol {name} greet you")


@unit.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
def add(path: Path) -> None:
    """Load the unit in directory PATH into the running host."""
    with open_client(must_run=True) as client:
        print_result(client.call("lifecycle.add", {"path": str(path.absolute())}))


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
