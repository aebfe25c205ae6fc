"""`smol mcp`: the Model Context Protocol on standard input and output, for programs that start it."""

from __future__ import annotations

import asyncio
import shutil
import sys

import click

from smol.cli.config import find, load
from smol.cli.output import print_json
from smol.cli.session import current_options
from smol.cli.settings import Settings
from smol.client import connect, local
from smol.errors import Unavailable
from smol.units.gateway.hosts import HostAccess
from smol.units.mcp.unit import load_server, read_settings

__all__ = ["mcp"]

_KEYS = {"claude": "mcpServers", "cursor": "mcpServers", "vscode": "servers"}
_DEADLINE_SECONDS = 300.0


@click.command()
@click.option(
    "--config", "client", type=click.Choice(sorted(_KEYS)), help="Print what to add to a client's settings."
)
def mcp(client: str | None) -> None:
    """Serve operations as tools to a program that started this command (Claude Desktop, Cursor, VS Code).

    Which ones: those that only read, and what `allow` of [units.mcp] adds.
    """
    if client is not None:
        command = shutil.which("smol")
        entry = {
            "command": command or sys.executable,
            "args": ["mcp"] if command else ["-m", "smol.cli.main", "mcp"],
        }
        print_json({_KEYS[client]: {"smol": {"type": "stdio", **entry} if client == "vscode" else entry}})
        return
    asyncio.run(_serve())


async def _serve() -> None:
    options = current_options()
    settings = load(Settings, find(options.config))
    kind = load_server()
    try:
        connector = connect(options.socket)
        client = await connector.__aenter__()
    except Unavailable:
        connector = local(config=options.config)
        client = await connector.__aenter__()
    try:
        socket = (await client.lifecycle.status())["socket"]
        host = HostAccess(socket, _DEADLINE_SECONDS, _DEADLINE_SECONDS)
        await host.open()
        try:
            await kind(host, read_settings(settings.units.get("mcp", {}))).serve_stdio()
        finally:
            await host.close()
    finally:
        await connector.__aexit__()
