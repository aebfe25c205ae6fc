"""Pictures of a conversation: those that come with a request, and those it only gives the addresses of."""

from __future__ import annotations

import re
from collections.abc import Callable

from smol.units.gateway.arguments import from_data_uri
from smol.units.gateway.fetching import Fetcher
from smol.units.openai.conversation import Ask, Remote, Turn

__all__ = ["add_picture", "fetch_pictures", "has_remote"]

_ADDRESS = re.compile(r"https?:", re.IGNORECASE)


def add_picture(turn: Turn, url: str, param: str) -> None:
    """The picture in a data: URI, or at an http(s) address, which is not fetched yet. Raises Refusal 400."""
    if _ADDRESS.match(url):
        turn.remote.append(Remote(len(turn.images) + len(turn.remote), url, param))
    else:
        turn.images.append(from_data_uri(url, param))


def has_remote(ask: Ask) -> bool:
    """Whether a conversation has pictures that are yet to be fetched."""
    return any(turn.remote for turn in ask.turns)


async def fetch_pictures(ask: Ask, fetcher: Fetcher, hold: Callable[[int], None]) -> None:
    """Fetch what the model will look at: the pictures of the last turn that has some. Raises Refusal 400.

    hold: told of each number of bytes before they are kept.
    """
    for turn in reversed(ask.turns):
        if turn.remote:
            wanted = [(remote.url, remote.param) for remote in turn.remote]
            for remote, image in zip(turn.remote, await fetcher.images(wanted, hold), strict=True):
                turn.images.insert(remote.place, image)
            turn.remote = []
        if turn.images:
            return
