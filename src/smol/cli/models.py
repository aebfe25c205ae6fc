"""`smol models`: what networks there are, which are on this machine, fetching and removing them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from smol.cli.config import find, load
from smol.cli.output import format_size, print_json, render_table
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.errors import NotFound, nearest
from smol.host.settings import locations_of
from smol.models import Asset, Catalog, Library, Model, Store, Variant
from smol.models.published import PUBLISHED
from smol.sizes import parse_bytes

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

__all__ = ["models"]


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List models: what for, how good, how large, and whether they are on this machine.

    A model is fetched when it is first used; 'smol models pull' does so ahead. One marked 'convert' has to
    be pulled, which takes PyTorch; one marked 'mirror' is on no public server, and is had from a mirror only.
    """
    if context.invoked_subcommand is not None:
        return
    store, catalog = _store(), _library().catalog()
    entries = [
        {
            "model": f"{model.name}:{variant.name}",
            "task": model.task,
            "size_bytes": variant.bytes,
            "here": "embedded"
            if variant.embedded
            else "imported"
            if variant.imported
            else "yes"
            if store.is_present(variant)
            else "no"
            if store.sources(variant)
            else "mirror",
            "accuracy": variant.accuracy,
            "licence": model.licence,
        }
        for model, variant in _variants(catalog)
    ]
    entries += [
        {
            "model": name,
            "task": each.task,
            "here": "convert",
            "accuracy": "not measured by us",
            "licence": "BSD-3-Clause",
        }
        for name, each in PUBLISHED.items()
        if all(model.name != name for model in catalog.model)
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
        if name in PUBLISHED and all(model.name != name for model in _library().catalog().model):
            from smol.cli.importing import import_published  # Imports the engines.

            model, variant = import_published(name, _library(), store)
            click.echo(
                f"converted {PUBLISHED[name].file} to {model.name}:{variant.name} ({format_size(variant.bytes)})"
            )
            continue
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


@models.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What to call the model; by default after the file.")
@click.option("--variant", help="What to call this form of it; by default the width of its input.")
@click.option("--task", type=click.Choice(["classify", "detect"]), help="What it is for, to be checked.")
@click.option(
    "--labels", help="Names of the classes: a text file, one a line, or labels of the catalog, as coco80."
)
@click.option("--head", help="How the output is read, where its shape fits several.")
@click.option("--like", metavar="MODEL", help="Prepare pictures as for this model.")
@click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="Order of the colours.")
@click.option("--fit", type=click.Choice(["stretch", "corner", "crop"]), help="How pictures are fitted in.")
@click.option("--mean", type=float, nargs=3, help="Subtracted from each channel of 0 to 255.")
@click.option("--std", type=float, nargs=3, help="What each channel is divided by afterwards.")
@click.option("--network", help="Which network safetensors weights are of, as smol-classify.")
@click.option("--licence", default="unknown", help="To be listed with the model.")
def import_(file: Path, **wishes: Any) -> None:
    """Bring a model of your own: FILE is ONNX or safetensors.

    It is opened in a process of its own, measured, and known to a running host at once. What the file
    does not tell is asked for by the name of an option.
    """
    from smol.cli.importing import Wishes, import_model  # Imports the engines, which no other command needs.

    model, variant = import_model(file, Wishes(**wishes), _library())
    click.echo(
        f"imported {model.name}:{variant.name} ({format_size(variant.bytes)}, reserves "
        f"{format_size(variant.reserved_bytes)}, read as {variant.output.head}); try:\n"
        f"  smol {model.task} image PICTURE --model {model.name}:{variant.name}"
    )


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete an imported model. NAME is MODEL, or MODEL:VARIANT as listed."""
    for gone in _library().remove(name):
        click.echo(f"removed {gone}")


@models.command()
@click.argument("name")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A directory of pictures like yours.")
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    help="How often it must answer as the original does to be registered, 0 to 1; by default 0.8.",
)
def quantize(name: str, data: Path, min_agreement: float | None) -> None:
    """Make an int8 variant of a model, and say what it gains and loses on your pictures.

    Half of the pictures set its ranges; the other half is measured. One that agrees too little with the
    original is not registered.
    """
    from smol.cli.quantization import MIN_AGREEMENT  # Imports the engines.
    from smol.cli.quantization import quantize as make

    library = _library()
    model, variant = _find(library.catalog(), name)
    measured = make(
        model, variant, data, library, _store(), MIN_AGREEMENT if min_agreement is None else min_agreement
    )
    click.echo(render_table([msgspec.to_builtins(each) for each in measured]))
    click.echo(f"registered {model.name}:{measured[-1].variant}; remove it with: smol models remove")


def _advance(bar: ProgressBar[int], done: int, total: int) -> None:
    bar.update(done - bar.pos)


def _store() -> Store:
    settings = load(Settings, find(current_options().config))
    places = locations_of(settings.host)
    return Store.from_environment(places.cache / "models", places.data / "models")


def _library() -> Library:
    settings = load(Settings, find(current_options().config))
    return Library(locations_of(settings.host).data / "models")


def _variants(catalog: Catalog) -> Iterator[tuple[Model, Variant]]:
    return ((model, variant) for model in catalog.model for variant in model.variant)


def _assets(name: str) -> list[Asset]:
    """The file of a variant, and that of its labels. Raises NotFound with the nearest name."""
    catalog = _library().catalog()
    model, variant = _find(catalog, name)
    labels = catalog.labels[model.labels].asset
    return [variant, labels] if labels is not None else [variant]


def _find(catalog: Catalog, name: str) -> tuple[Model, Variant]:
    """A variant of any task. Raises NotFound with the nearest name."""
    wanted, _, variant_name = name.partition(":")
    for model, variant in _variants(catalog):
        if model.name == wanted and variant_name in ("", variant.name):
            return model, variant
    if name in PUBLISHED:
        raise NotFound(f"model {name!r} is not converted yet; run: smol models pull {name}")
    known = [*(f"{model.name}:{variant.name}" for model, variant in _variants(catalog)), *PUBLISHED]
    hint = nearest(name, [*known, *(model.name for model in catalog.model)])
    raise NotFound(f"no model {name!r}{hint}; known: {', '.join(known)}")
