"""`smol units` and `smol ps`: what there is, and how it is."""

from __future__ import annotations

import click

from smol.cli.output import format_size, print_json, render_table
from smol.cli.session import current_options, open_client

__all__ = ["ps", "units"]


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
    if current_options().as_json:
        print_json({**status, "processes": processes})
        return
    columns = ("name", "state", "pid", "pss_bytes", "calls", "waiting", "starts", "crashes", "units")
    rows = [
        {key: entry.get(key) or ("" if key in {"pid", "units"} else 0) for key in columns} for entry in processes
    ]
    click.echo(render_table(rows))
    used, budget = format_size(status["pss_bytes"]), format_size(status["budget_bytes"])
    clients = status["clients"]
    click.echo(f"\n{used} of {budget} in use · {clients} client{'s' * (clients != 1)} · {status['calls']} calls")
