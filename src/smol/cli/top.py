"""`smol top`: the budget and who uses it, as it changes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

import click

from smol.cli.inspect import budget_line
from smol.cli.output import format_size, print_json, render_table
from smol.cli.session import current_options, open_client

__all__ = ["bar", "top"]

_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_USED, _RESERVED, _FREE = "█", "▒", "·"


@click.command()
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Show one look and end.")
def top(interval: float, once: bool) -> None:
    """Watch the budget: one bar of all there is, and what each worker has reserved, uses and does.

    Ends with Ctrl-C. With --json, one line for each look.
    """
    before: dict[str, Any] = {}
    with open_client(must_run=True) as client:
        for memory in client.stream("memory.watch", {"interval_seconds": interval}):
            processes = client.call("lifecycle.processes")
            now = time.monotonic()
            if current_options().as_json:
                print_json({**memory, "processes": processes})
            else:
                text = _page(memory, processes, before, now)
                click.echo(text if once else _HOME_AND_CLEAR + text)
            if once:
                return
            before = {entry["name"]: (now, entry) for entry in processes}


def _page(
    memory: Mapping[str, Any], processes: list[dict[str, Any]], before: Mapping[str, Any], now: float
) -> str:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    reserved = {share["name"]: share["size_bytes"] for share in memory["others"]}
    reserved |= {worker["name"]: worker["reserved_bytes"] for worker in memory["workers"]}
    rows = [
        _row(entry, reserved.get(entry["name"], 0), before.get(entry["name"]), now)
        for entry in processes
        if entry["pid"] or entry["state"] not in ("declared", "stopped", "ready")
    ]
    lines: list[str] = [bar(memory, width), budget_line(memory), "", render_table(rows), ""]
    if memory["level"] != "calm":
        lines.append(f"{memory['level']}: {memory['level_reason']}")
    if memory["waiting"]:
        lines.append(f"{memory['waiting']} wait for room")
    if memory["last_decision"]:
        lines.append(f"last decision: {memory['last_decision']}")
    return "\n".join(lines)


def bar(memory: Mapping[str, Any], width: int) -> str:
    """The budget as one bar of `width` characters: in use, reserved beyond that, free."""
    budget: int = memory["budget_bytes"]
    used: int = min(width, round(width * memory["used_bytes"] / budget))
    reserved: int = min(width - used, max(0, round(width * memory["reserved_bytes"] / budget) - used))
    return _USED * used + _RESERVED * reserved + _FREE * (width - used - reserved)


def _row(entry: Mapping[str, Any], reserved_bytes: int, before: Any, now: float) -> dict[str, Any]:
    row = {
        "name": entry["name"],
        "state": entry["state"],
        "reserved": format_size(reserved_bytes) if reserved_bytes else "",
        "uses": format_size(entry["pss_bytes"]) if entry["pss_bytes"] else "",
        "cpu": "",
        "calls/s": "",
        "running": entry["calls"],
        "waiting": entry["waiting"],
    }
    if before is not None and before[1]["pid"] == entry["pid"]:
        seconds = max(1e-3, now - before[0])
        row["cpu"] = f"{100 * (entry['cpu_seconds'] - before[1]['cpu_seconds']) / seconds:.0f} %"
        row["calls/s"] = f"{(entry['calls_total'] - before[1]['calls_total']) / seconds:.0f}"
    return row
