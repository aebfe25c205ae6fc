"""Which pictures of a conversation are fetched, and where they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from smol.types import Attachment
from smol.units.gateway.fetching import Fetcher
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import FetchSettings
from smol.units.openai.conversation import Ask, Turn
from smol.units.openai.pictures import add_picture, fetch_pictures, has_remote


class Names(Fetcher):
    """Fetches the name of what it is asked for."""

    def __init__(self) -> None:
        super().__init__(FetchSettings())

    async def images(self, wanted: Sequence[tuple[str, str]], hold: Callable[[int], None]) -> list[Attachment]:
        return [Attachment(url.rpartition("/")[2].encode()) for url, _ in wanted]


def turn(*urls: str) -> Turn:
    made = Turn(role="user")
    for index, url in enumerate(urls):
        add_picture(made, url, f"p{index}")
    return made


def test_pictures_keep_their_order_and_only_the_last_ones_are_fetched() -> None:
    last = turn("http://a/1", "data:;base64,Mg==", "HTTPS://a/3")
    ask = Ask(turns=[turn("http://a/old"), last, Turn(role="assistant", text="I see."), Turn(role="user")])
    assert has_remote(ask)
    asyncio.run(fetch_pictures(ask, Names(), lambda count: None))
    assert [bytes(image.data) for image in last.images] == [b"1", b"2", b"3"]
    assert not last.remote
    assert ask.turns[0].images == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "ftp://a/b", "data:,x", " http://a/b"])
def test_what_is_no_web_address_is_never_read(url: str) -> None:
    with pytest.raises(Refusal, match="p0"):
        turn(url)
