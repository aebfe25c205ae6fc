"""`smol key`: who may come in over HTTP."""

from __future__ import annotations

import time

import click

from smol.cli.config import find, load
from smol.cli.output import print_json
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.host.settings import locations_of
from smol.units.gateway.keys import KeyFile, keys_path

__all__ = ["key"]


@click.group()
def key() -> None:
    """Make, list and revoke keys for HTTP; with the first one, every request over TCP needs one."""


@key.command()
@click.option("--name", required=True, help="What to call it, to revoke it by.")
@click.option("--allow", default="*", show_default=True, help="Operations it may call: detect.*,classify.image")
@click.option("--per-minute", type=click.IntRange(0), default=0, help="Requests it may make; 0 for any number.")
def create(name: str, allow: str, per_minute: int) -> None:
    """Make a key and print it, once; only its hash is kept."""
    patterns = [pattern.strip() for pattern in allow.split(",") if pattern.strip()]
    click.echo(_file().create(name, patterns, per_minute))


@key.command("list")
def list_keys() -> None:
    """List the keys, without their secrets."""
    keys = _file().all()
    if current_options().as_json:
        print_json([{"name": key.name, "allow": key.allow, "per_minute": key.per_minute} for key in keys])
        return
    for key in keys:
        made = time.strftime("%Y-%m-%d", time.localtime(key.created))
        rate = f", {key.per_minute} a minute" if key.per_minute else ""
        click.echo(f"{key.name}  since {made}, allows {', '.join(key.allow)}{rate}")


@key.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Take a key back, from the next request on."""
    _file().revoke(name)


def _file() -> KeyFile:
    settings = load(Settings, find(current_options().config))
    return KeyFile(keys_path(locations_of(settings.host).data))
