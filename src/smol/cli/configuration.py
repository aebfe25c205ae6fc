"""`smol config`: which settings are in force, and an example to start from."""

from __future__ import annotations

import click
import msgspec

from smol.cli.config import find, load
from smol.cli.environment import VARIABLES
from smol.cli.example import render
from smol.cli.output import print_json
from smol.cli.session import current_options
from smol.cli.settings import Settings

__all__ = ["config"]


@click.group()
def config() -> None:
    """Show the settings: smol.toml, overridden by variables SMOL_…"""


@config.command()
def show() -> None:
    """Print the settings in force, as JSON."""
    settings = load(Settings, find(current_options().config))
    print_json(msgspec.to_builtins(settings, enc_hook=str))


@config.command()
def path() -> None:
    """Print the settings file in force."""
    click.echo(find(current_options().config) or "no settings file: the defaults are in force")


@config.command()
def example() -> None:
    """Print a smol.toml with every setting, its default and what it is for."""
    click.echo(render(Settings), nl=False)


@config.command()
def variables() -> None:
    """List environment variables that are not settings."""
    for name, text in VARIABLES.items():
        click.echo(f"{name}\n    {text}")
