"""`smol call` and `smol events`: the bus from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from smol.cli.output import print_json, save
from smol.cli.session import open_client
from smol.client.arguments import bind
from smol.errors import InvalidArgument, NotFound, nearest
from smol.plain import plain_json

__all__ = ["call", "events"]


@click.command()
@click.argument("operation")
@click.argument("arguments", default="{}")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result's attachment to a file.",
)
def call(operation: str, arguments: str, output: Path | None) -> None:
    """Call OPERATION (as math.evaluate) with ARGUMENTS, a JSON object; '-' reads it from standard input.

    Where an attachment is wanted, write the path of a file. The result is printed as JSON.
    """
    text = sys.stdin.read() if arguments == "-" else arguments
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"the arguments are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidArgument('the arguments are an object, as {"expression": "1 + 1"}')
    unit, dot, name = operation.partition(".")
    if not dot:
        raise InvalidArgument(f"{operation!r} is not an operation: write unit.operation, as math.evaluate")
    with open_client() as client:
        operations = {entry.name: entry for entry in client.describe(unit).operations}
        if name not in operations:
            known = ", ".join(operations)
            raise NotFound(f"unit {unit!r} has no operation {name!r}{nearest(name, operations)}; known: {known}")
        bound = bind(operation, operations[name], (), given)
        if operations[name].streaming:
            for item in client.stream(operation, bound):
                print_json(item)
            return
        result = client.call(operation, bound)
    if output is not None:
        save(result, output)
    print_json(result)


@click.command()
@click.argument("topic", default="*")
def events(topic: str) -> None:
    """Follow events of TOPIC ('*' at its end stands for any rest) until interrupted."""
    with open_client(must_run=True) as client:
        for event in client.events(topic):
            click.echo(plain_json(msgspec.json.encode(event).decode()))
