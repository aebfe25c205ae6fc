"""`smol logs`, `smol graph`, and the levers of units: start, stop, restart, drain, enable, disable."""

from __future__ import annotations

import click
import msgspec

from smol.cli.output import print_json
from smol.cli.session import current_options, open_client
from smol.plain import plain, plain_json
from smol.types import Json

__all__ = ["disable", "drain", "enable", "graph", "logs", "restart", "start", "stop"]

_FOLLOW_SECONDS = 86_400.0


@click.command()
@click.argument("unit")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each line that comes, until interrupted.")
def logs(unit: str, lines: int, follow: bool) -> None:
    """Show what the worker of UNIT wrote; 'host' is the host itself."""
    arguments = {"name": unit, "lines": lines, "follow": follow}
    as_json = current_options().as_json
    with open_client(must_run=True) as client:
        if follow:
            client = client.within(_FOLLOW_SECONDS)
        for line in client.stream("lifecycle.logs", arguments):
            click.echo(plain_json(msgspec.json.encode(line).decode()) if as_json else plain(line["text"]))


@click.command()
@click.option("--dot", is_flag=True, help="In Graphviz's language: smol graph --dot | dot -Tsvg > units.svg")
def graph(dot: bool) -> None:
    """Draw which units need which."""
    with open_client() as client:
        text = client.call("lifecycle.graph", {"form": "dot" if dot else "text"})
    if current_options().as_json:
        print_json(text)
    else:
        click.echo(text)


@click.command()
@click.argument("unit")
def start(unit: str) -> None:
    """Start the worker of UNIT and wait until it is ready; one that failed or was drained gets a new chance."""
    _move("start", unit)


@click.command()
@click.argument("unit")
def stop(unit: str) -> None:
    """Let the worker of UNIT finish what it has, and end it; the next call starts it again."""
    _move("stop", unit)


@click.command()
@click.argument("unit")
def restart(unit: str) -> None:
    """Stop the worker of UNIT and start it again."""
    _move("restart", unit)


@click.command()
@click.argument("unit")
def drain(unit: str) -> None:
    """As stop, and refuse calls to UNIT until 'smol start'."""
    _move("drain", unit)


@click.command()
@click.argument("unit")
def enable(unit: str) -> None:
    """Let UNIT take calls again."""
    _switch("enable", unit)


@click.command()
@click.argument("unit")
def disable(unit: str) -> None:
    """Let UNIT take no calls, now and after a restart of the host, until 'smol enable'."""
    _switch("disable", unit)


def _move(verb: str, unit: str) -> None:
    with open_client(must_run=True) as client:
        entry = client.call(f"lifecycle.{verb}", {"name": unit})
    took = f" in {entry['ready_seconds']:.2f} s" if entry["state"] == "ready" and verb != "stop" else ""
    others = [name for name in entry["units"] if name != unit]
    shared = f"; it also serves {', '.join(others)}" if others else ""
    _report(entry, f"worker {entry['name']} is {entry['state']}{took}{shared}")


def _switch(verb: str, unit: str) -> None:
    # What is disabled is kept on disk, but a private host would not tell the one that runs.
    with open_client(must_run=True) as client:
        entry = client.call(f"lifecycle.{verb}", {"unit": unit})
    _report(entry, f"unit {unit} is {verb}d")


def _report(entry: Json, text: str) -> None:
    if current_options().as_json:
        print_json(entry)
    else:
        click.echo(text)
