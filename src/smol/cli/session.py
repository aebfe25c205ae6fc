"""How a command reaches a host: the one that runs, else a private one for this command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from smol.client import BlockingClient, connect, local
from smol.errors import Unavailable

__all__ = ["Options", "current_options", "open_client"]


class Options(msgspec.Struct):
    """What was said before the command."""

    config: Path | None = None
    socket: Path | None = None
    private: bool = False
    within_seconds: float = 60.0
    keep_seconds: float | None = None
    as_json: bool = False


def current_options() -> Options:
    """The options of the command that runs."""
    return click.get_current_context().find_root().ensure_object(Options)


@contextlib.contextmanager
def open_client(*, must_run: bool = False) -> Iterator[BlockingClient]:
    """A client. must_run: a private host would make no sense for this command."""
    options = current_options()
    if not options.private:
        try:
            connection = connect(options.socket)
            client = connection.__enter__()
        except Unavailable:
            if must_run or options.socket is not None:
                raise
        else:
            with contextlib.ExitStack() as stack:
                stack.push(connection.__exit__)
                yield _with(options, client)
            return
    with local(config=options.config) as client:
        yield _with(options, client)


def _with(options: Options, client: BlockingClient) -> BlockingClient:
    client = client.within(options.within_seconds)
    return client if options.keep_seconds is None else client.keeping(options.keep_seconds)
