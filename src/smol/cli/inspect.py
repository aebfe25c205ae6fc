"""`smol units` and `smol ps`: what there is, and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from smol.cli.output import format_size, print_json, render_table
from smol.cli.session import current_options, open_client

__all__ = ["budget_line", "ps", "units"]


@click.command()
def units() -> None:
    """List units: what they are for, their state, and what is wrong with those that can't be used."""
    with open_client() as client:
        entries = client.call("lifecycle.units")
    if current_options().as_json:
        print_json(entries)
        return
    columns = ("name", "kind", "state", "worker", "description", "error")
    click.echo(render_table([{key: entry.get(key, "") for key in columns} for entry in entries]))


@click.command()
def ps() -> None:
    """List the processes of the running host, with their memory."""
    with open_client(must_run=True) as client:
        status = client.call("lifecycle.status")
        processes = client.call("lifecycle.processes")
        memory = client.call("memory.status")
    if current_options().as_json:
        print_json({**status, "processes": processes})
        return
    reserved = {share["name"]: share["size_bytes"] for share in memory["others"]}
    reserved |= {worker["name"]: worker["reserved_bytes"] for worker in memory["workers"]}
    columns = (
        "name",
        "state",
        "pid",
        "reserved_bytes",
        "pss_bytes",
        "calls",
        "waiting",
        "starts",
        "crashes",
        "units",
    )
    for entry in processes:
        entry["reserved_bytes"] = reserved.get(entry["name"], 0)
    rows = [
        {key: entry.get(key) or ("" if key in {"pid", "units"} else 0) for key in columns} for entry in processes
    ]
    click.echo(render_table(rows))
    click.echo("\n" + budget_line(memory))
    clients = status["clients"]
    click.echo(f"{clients} client{'s' * (clients != 1)} · {status['calls']} calls")


def budget_line(memory: Mapping[str, Any]) -> str:
    """The budget in a line or two: used, reserved, and how well it is kept."""
    sizes = {name: format_size(memory[f"{name}_bytes"]) for name in ("used", "reserved", "budget", "peak")}
    line = (
        f"{sizes['used']} in use, {sizes['reserved']} reserved of {sizes['budget']} ({memory['budget_reason']}), "
        f"at most {sizes['peak']} ever · {memory['guarantee']}: {memory['kept_by']}"
    )
    return line if not memory["missing"] else f"{line}\nbetter: {memory['missing']}"
