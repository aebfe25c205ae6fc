"""`smol program` and `smol do`: programs of calls, from a file or on one line."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from smol.cli.output import print_json, print_result, save
from smol.cli.pipeline import compile_line
from smol.cli.session import current_options, open_client
from smol.errors import InvalidArgument, NotFound
from smol.plain import plain
from smol.types import Attachment, Json

__all__ = ["do", "program"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def program() -> None:
    """Check and run programs of calls to units, written in YAML or JSON."""


@program.command()
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Say what is wrong with the program in FILE; nothing is run."""
    text = _read(file)
    with open_client() as client:
        problems = client.call("executor.check", {"program": text})
    if not problems:
        click.echo(f"{file} is right")
        return
    for problem in problems:
        click.echo(plain(f"{file}:{problem['line']}: {problem['path']}: {problem['message']}"))
    raise InvalidArgument(f"{file} has {len(problems)} problem{'s' if len(problems) > 1 else ''}")


@program.command()
@click.argument("file", type=_FILE)
@click.option("--input", "given", default="null", help="What `input` refers to, as JSON.")
@click.option(
    "--file", "files", multiple=True, metavar="NAME=PATH", help="A file for `input.NAME`. May be repeated."
)
@click.option("--durable", is_flag=True, help="Let it go on without this command; prints the run's id.")
@click.option("-o", "--output", type=_FILE, help="Write the result's attachment to a file.")
def run(file: Path, given: str, files: tuple[str, ...], durable: bool, output: Path | None) -> None:
    """Run the program in FILE and print its result."""
    try:
        value = msgspec.json.decode(given)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"--input is not JSON: {error}") from None
    arguments = {"program": _read(file), "input": value, "files": dict(map(_named, files)) or None}
    with open_client(must_run=durable) as client:
        result = client.call("executor.submit" if durable else "executor.run", arguments)
    _show(result, output)


@click.command()
@click.argument("line")
@click.option("-o", "--output", type=_FILE, help="Write the result's attachment to a file.")
def do(line: str, output: Path | None) -> None:
    """Run a LINE of calls, as "detect.image photo.jpg | storage.put key=last".

    The result of a call becomes the first required argument that the next one is not given, else its
    `value`. Words are arguments by position or as name=value.
    """
    with open_client() as client:
        made, files = compile_line(line, client.describe)
        arguments = {"program": msgspec.json.encode(made).decode(), "files": files or None}
        result = client.call("executor.run", arguments)
    _show(result, output)


def _show(result: Json, output: Path | None) -> None:
    if output is not None:
        save(result, output)
    (print_json if current_options().as_json else print_result)(result)


def _named(text: str) -> tuple[str, Attachment]:
    name, equals, path = text.partition("=")
    if not equals:
        raise InvalidArgument(f"--file wants NAME=PATH, not {text!r}")
    try:
        return name, Attachment.from_file(path)
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{file} can't be read: {error}") from None
