from __future__ import annotations

import asyncio

from smol.host.diary import Diary


async def test_events_are_told_from_a_number_on_and_then_as_they_come() -> None:
    diary = Diary()
    for number in range(3):
        diary.heard("host.unit", {"number": number})
    assert [event.data["number"] async for event in diary.read(1, follow=False)] == [1, 2]
    following = diary.read(2, follow=True)
    assert (await anext(following)).sequence == 3
    coming = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    diary.heard("host.unit", {"number": 3})
    assert (await coming).data == {"number": 3}


async def test_old_events_are_forgotten_and_the_gap_shows_in_the_numbers() -> None:
    diary = Diary()
    for number in range(600):
        diary.heard("host.unit", {"number": number})
    kept = [event.sequence async for event in diary.read(0, follow=False)]
    assert kept == list(range(101, 601))
