"""`smol boot`: what started when, how long it took, and what everything waited for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from smol.cli.output import print_json
from smol.cli.session import current_options, open_client
from smol.types import Json

__all__ = ["boot", "render_boot"]

_BAR_CHARACTERS = 40


@click.command()
def boot() -> None:
    """Show how the running host started, what it waited for, and how the one before it stopped."""
    with open_client(must_run=True) as client:
        record = client.call("lifecycle.boot")
    if current_options().as_json:
        print_json(record)
    else:
        click.echo(render_boot(record))


def render_boot(record: Json) -> str:
    """The record as a chart: a bar for each phase, `*` beside those that everything waited for."""
    at_start = [phase for phase in record["phases"] if not phase["on_demand"]]
    later = [phase for phase in record["phases"] if phase["on_demand"]]
    lines = [
        f"Started {_moment(record['began'])}: took calls after {_time(record['serving_seconds'])}, "
        f"everything that runs always was ready after {_time(record['ready_seconds'])}.",
        f"Waited for: {' → '.join(record['critical'])}",
        "",
        *_chart(at_start, record["ready_seconds"]),
    ]
    if later:
        lines += ["", "Started later, when they were called first:"]
        lines += [f"  {phase['name']:<16} took {_time(phase['took_seconds'])}" for phase in later]
    stop = record["last_stop"]
    if stop is None:
        return "\n".join([*lines, "", "No host stopped here before this one."])
    if not stop["clean"]:
        return "\n".join([*lines, "", "The host before this one was killed: it did not say how it stopped."])
    lines += ["", f"The host before this one stopped {_moment(stop['began'])}, in {_time(stop['took_seconds'])}."]
    return "\n".join([*lines, *_chart(stop["phases"], stop["took_seconds"])])


def _chart(phases: Sequence[Json], total_seconds: float) -> list[str]:
    scale = _BAR_CHARACTERS / total_seconds if total_seconds > 0 else 0.0
    rows = [(phase, phase["began_seconds"], phase["took_seconds"]) for phase in phases]
    return [
        f"{'*' if phase.get('critical') else ' '} {phase['name']:<16} {_time(began):>9}"
        f"{'+' + _time(took):>11}  {_bar(began * scale, took * scale)}"
        for phase, began, took in rows
    ]


def _bar(start: float, length: float) -> str:
    before = min(_BAR_CHARACTERS - 1, int(start))
    width = max(1, min(_BAR_CHARACTERS - before, round(length)))
    return " " * before + "█" * width


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
