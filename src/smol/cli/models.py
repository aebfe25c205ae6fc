"""`smol models`: what networks there are, which are on this machine, fetching and removing them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from smol.cli.config import find, load
from smol.cli.output import format_size, print_json, render_table
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.errors import NotFound, nearest
from smol.host.settings import locations_of
from smol.models import Asset, Catalog, Model, Store, Variant, load_catalog
from smol.sizes import parse_bytes

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

__all__ = ["models"]


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List models: what for, how good, how large, and whether they are on this machine.

    A model is fetched when it is first used; 'smol models pull' does so ahead.
    """
    if context.invoked_subcommand is not None:
        return
    store = _store()
    entries = [
        {
            "model": f"{model.name}:{variant.name}",
            "task": model.task,
            "size_bytes": variant.bytes,
            "here": "embedded" if variant.embedded else "yes" if store.is_present(variant) else "no",
            "accuracy": variant.accuracy,
            "licence": model.licence,
        }
        for model, variant in _variants(load_catalog())
    ]
    if current_options().as_json:
        print_json(entries)
    else:
        click.echo(render_table(entries))


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def pull(names: tuple[str, ...]) -> None:
    """Fetch models ahead of their first use. NAME is MODEL, or MODEL:VARIANT as listed."""
    store = _store()
    for name in names:
        for asset in _assets(name):
            known = store.is_present(asset)
            with click.progressbar(length=asset.bytes, label=asset.file, hidden=known) as bar:
                path = store.obtain(asset, progress=partial(_advance, bar))
            click.echo(f"{path} ({format_size(asset.bytes)}, verified)")


@models.command()
@click.argument("name")
def pin(name: str) -> None:
    """Keep a model when others are pruned."""
    for asset in _assets(name):
        _store().pin(asset)


@models.command()
@click.argument("name")
def unpin(name: str) -> None:
    """Let a model go when models are pruned."""
    for asset in _assets(name):
        _store().unpin(asset)


@models.command()
@click.option("--keep", default="0", help="How much to keep, as 200MiB; the most recently used stay.")
def prune(keep: str) -> None:
    """Delete fetched models that are not pinned, least recently used first."""
    removed = _store().prune(parse_bytes(keep))
    for item in removed:
        click.echo(f"deleted {item.file} ({format_size(item.bytes)})")
    if not removed:
        click.echo("nothing to delete")


def _advance(bar: ProgressBar[int], done: int, total: int) -> None:
    bar.update(done - bar.pos)


def _store() -> Store:
    settings = load(Settings, find(current_options().config))
    return Store.from_environment(locations_of(settings.host).cache / "models")


def _variants(catalog: Catalog) -> Iterator[tuple[Model, Variant]]:
    return ((model, variant) for model in catalog.model for variant in model.variant)


def _assets(name: str) -> list[Asset]:
    """The file of a variant, and that of its labels. Raises NotFound with the nearest name."""
    catalog = load_catalog()
    wanted, _, variant_name = name.partition(":")
    for model, variant in _variants(catalog):
        if model.name == wanted and variant_name in ("", variant.name):
            labels = catalog.labels[model.labels].asset
            return [variant, labels] if labels is not None else [variant]
    known = [f"{model.name}:{variant.name}" for model, variant in _variants(catalog)]
    hint = nearest(name, [*known, *(model.name for model in catalog.model)])
    raise NotFound(f"no model {name!r}{hint}; known: {', '.join(known)}")
