"""`smol doctor`: is everything here that Smol needs, and what would make it better."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from smol.cli.config import find, load
from smol.cli.output import format_size, print_json
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.client import connect
from smol.errors import SmolError
from smol.host.discovery import Broken, discover
from smol.host.enforcement import scope_command, try_enforcement
from smol.host.golang import find_toolchain
from smol.host.limits import choose_budget
from smol.host.requirements import missing
from smol.host.settings import locations_of
from smol.models import Store, load_catalog
from smol.sandbox.ground import explore
from smol.sandbox.records import Isolation

__all__ = ["Finding", "doctor"]


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. level: ok, note (works, could be better) or wrong; hint: what to do."""

    level: str
    what: str
    found: str
    hint: str = ""


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check this installation: Python, packages, places, units, models, memory, the host.

    The exit status is 1 if something is wrong.
    """
    settings = load(Settings, find(current_options().config))
    findings = [finding for check in CHECKS for finding in check(settings)]
    if current_options().as_json:
        print_json(msgspec.to_builtins(findings))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark = {"ok": "✓", "note": "·", "wrong": "✗"}[finding.level]
            click.echo(f"{mark} {finding.what:<{width}}  {finding.found}")
            if finding.hint:
                click.echo(f"  {'':<{width}}  → {finding.hint}")
    context.exit(1 if any(finding.level == "wrong" for finding in findings) else 0)


def _system(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    hint = "" if supported else "use Python 3.11 to 3.13"
    yield Finding(
        "ok" if supported else "note", "python", f"{version} on {platform.system()} {platform.machine()}", hint
    )
    if sys.platform != "linux":
        yield Finding(
            "note",
            "kernel",
            platform.system(),
            "memory limits and sandboxes need Linux; here they are not enforced",
        )
    budget = choose_budget(settings.host.budget_bytes)
    level = "ok" if budget.bytes >= settings.host.budget_bytes else "note"
    yield Finding(level, "budget", f"{format_size(budget.bytes)}, {budget.reason}")
    kept = try_enforcement(budget.bytes)
    scope = "" if kept.guarantee == "hard" else "smol serve then asks systemd for a scope, which has one"
    better = scope if scope and scope_command(["smol"]) else kept.missing
    level = "ok" if kept.guarantee == "hard" else "note"
    yield Finding(level, "budget kept", f"{kept.guarantee}: {kept.means}", better)


def _packages(settings: Settings) -> Iterator[Finding]:
    unmet: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("smol") or []:
        name, _, marker = requirement.partition(";")
        if "extra ==" in marker:
            extras.setdefault(marker.rpartition("extra ==")[2].strip(" '\""), []).append(name.strip())
        else:
            unmet += missing([requirement])
    if unmet:
        yield Finding("wrong", "packages", f"missing: {', '.join(unmet)}", "pip install smol, in this environment")
    else:
        yield Finding("ok", "packages", "all that Smol needs are installed")
    for extra, needed in extras.items():
        if extra in ("dev", "go"):  # Go is looked at below: it need not come from the extra.
            continue
        absent = missing(needed)
        if absent:
            yield Finding(
                "note", f"extra {extra}", "not installed", f"pip install 'smol[{extra}]', if you want it"
            )
        else:
            yield Finding("ok", f"extra {extra}", "installed")


def _golang(settings: Settings) -> Iterator[Finding]:
    try:
        toolchain = find_toolchain()
    except SmolError as error:
        yield Finding("note", "go", error.message, "only units in Go need one")
    else:
        yield Finding("ok", "go", f"{toolchain.version} at {toolchain.go}")


def _places(settings: Settings) -> Iterator[Finding]:
    locations = locations_of(settings.host)
    yield Finding("ok", "settings", str(find(current_options().config) or "defaults, no smol.toml"))
    for what, path in (("data", locations.data), ("cache", locations.cache), ("socket", locations.socket.parent)):
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        if not os.access(existing, os.W_OK):
            yield Finding("wrong", what, f"{path} can't be written", "set SMOL_HOME to a directory of yours")
        else:
            free = shutil.disk_usage(existing).free
            yield Finding("ok" if free > 1 << 28 else "note", what, f"{path} ({format_size(free)} free)")


def _units(settings: Settings) -> Iterator[Finding]:
    count = 0
    for found in discover(settings.host.unit_directories):
        if isinstance(found, Broken):
            yield Finding("wrong", f"unit {found.name}", str(found.error), f"see {found.where}")
            continue
        count += 1
        absent = missing(found.requirements)
        if absent:
            text = f"needs {', '.join(absent)}"
            yield Finding(
                "note", f"unit {found.name}", text, "they are installed for it alone when it is first used"
            )
    yield Finding("ok", "units", f"{count} found")


def _models(settings: Settings) -> Iterator[Finding]:
    store = Store.from_environment(locations_of(settings.host).cache / "models")
    for task in ("detect", "classify"):
        names = [
            f"{model.name}:{variant.name}"
            for model, variant in load_catalog().variants(task)
            if variant.embedded or store.is_present(variant) or store.sources(variant)
        ]
        if names:
            yield Finding("ok", f"models to {task}", ", ".join(names))
        else:
            hint = "set SMOL_MODEL_MIRROR to a directory or server that has them; see 'smol models'"
            yield Finding("wrong", f"models to {task}", "none can be had", hint)


def _host(settings: Settings) -> Iterator[Finding]:
    socket = Path(current_options().socket or locations_of(settings.host).socket)
    try:
        with connect(socket) as client:
            status = client.call("lifecycle.status")
            broken = [
                unit for unit in client.call("lifecycle.units") if unit["state"] in ("failed", "unavailable")
            ]
    except SmolError:
        yield Finding(
            "note", "host", f"none runs at {socket}", "smol serve; other commands start one for themselves"
        )
        return
    used = format_size(status["pss_bytes"])
    yield Finding("ok", "host", f"version {status['version']}, process {status['pid']}, {used} in use")
    for unit in broken:
        yield Finding(
            "wrong",
            f"unit {unit['name']}",
            f"{unit['state']}: {unit['error']}",
            f"smol lifecycle start {unit['name']}",
        )


def _sandbox(settings: Settings) -> Iterator[Finding]:
    async def find() -> Isolation:
        ground = await explore()
        await ground.close()
        return ground.isolation

    isolation = asyncio.run(find())
    text = f"tier {isolation.tier}: {', '.join(isolation.layers) or 'no layer works'}"
    lacks = "; ".join(f"{layer}: {reason}" for layer, reason in isolation.missing.items())
    level = "ok" if isolation.tier == "strong" else "note"
    yield Finding(level, "sandbox", text, isolation.fix or lacks)


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _system,
    _packages,
    _golang,
    _places,
    _units,
    _models,
    _sandbox,
    _host,
)
