"""The `smol` command. Commands are loaded when they run; each unit is a command of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from smol import __version__
from smol.cli.errors import EXIT_STATUS, explain
from smol.cli.session import Options
from smol.errors import SmolError, nearest

__all__ = ["COMMANDS", "main", "smol"]

COMMANDS: Mapping[str, str] = {
    "boot": "smol.cli.boot:boot",
    "call": "smol.cli.call:call",
    "config": "smol.cli.configuration:config",
    "disable": "smol.cli.lifecycle:disable",
    "do": "smol.cli.program:do",
    "doctor": "smol.cli.doctor:doctor",
    "drain": "smol.cli.lifecycle:drain",
    "enable": "smol.cli.lifecycle:enable",
    "events": "smol.cli.call:events",
    "graph": "smol.cli.lifecycle:graph",
    "logs": "smol.cli.lifecycle:logs",
    "key": "smol.cli.key:key",
    "mcp": "smol.cli.mcp:mcp",
    "models": "smol.cli.models:models",
    "program": "smol.cli.program:program",
    "ps": "smol.cli.inspect:ps",
    "restart": "smol.cli.lifecycle:restart",
    "serve": "smol.cli.serve:serve",
    "start": "smol.cli.lifecycle:start",
    "stop": "smol.cli.lifecycle:stop",
    "top": "smol.cli.top:top",
    "unit": "smol.cli.unit:unit",
    "units": "smol.cli.inspect:units",
}
"""Every command that is not a unit, and where it is."""


class Commands(click.Group):
    """The commands above, and one for each unit that can be found."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*sorted(COMMANDS), *sorted(self._unit_names())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        operations = importlib.import_module("smol.cli.operations")
        found: click.Command | None = operations.unit_command(name)
        return found

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            if args[0].startswith("-"):
                raise
            hint = nearest(args[0], self.list_commands(context))
            raise click.UsageError(f"no command or unit {args[0]!r}{hint}", context) from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        units = self._unit_names()
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(context, name)) for name in sorted(COMMANDS)])
        with formatter.section("Units (each operation is a command; see 'smol UNIT --help')"):
            formatter.write_dl(sorted(units.items()))

    def _short_help(self, context: click.Context, name: str) -> str:
        command = self.get_command(context, name)
        return command.get_short_help_str(80) if command is not None else ""

    def _unit_names(self) -> dict[str, str]:
        names: dict[str, str] = importlib.import_module("smol.cli.operations").known_units()
        return names


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="smol")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (default: smol.toml)."
)
@click.option("--socket", type=click.Path(path_type=Path), help="Socket of the host to talk to.")
@click.option("--private", is_flag=True, help="Use a private host for this command, even if one runs.")
@click.option(
    "--within", "within_seconds", default=60.0, show_default=True, help="Deadline of a call, in seconds."
)
@click.option(
    "--keep-alive",
    "keep_seconds",
    type=float,
    help="Seconds that the unit stays loaded afterwards; -1 while it can.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.pass_context
def smol(
    context: click.Context,
    config: Path | None,
    socket: Path | None,
    private: bool,
    within_seconds: float,
    keep_seconds: float | None,
    as_json: bool,
) -> None:
    """A local AI appliance in one small box.

    Commands use the host started by 'smol serve', or a private one for the time of the command.
    """
    context.obj = Options(config, socket, private, within_seconds, keep_seconds, as_json)


def main() -> None:
    """Entry of the `smol` script."""
    try:
        status = smol(standalone_mode=False)
    except SmolError as error:
        click.echo(explain(error), err=True)
        status = EXIT_STATUS[error.code]
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Or Python complains once more at its end.
        status = 0
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
