from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from smol.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from smol.sdk import Attachment
from smol.units.storage.unit import Storage

DATA = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(DATA).hexdigest()


async def upload(storage: Storage, data: bytes, chunk_bytes: int = 1_000_000) -> str:
    opened = await storage.begin_upload()
    for start in range(0, len(data), chunk_bytes):
        state = await storage.append(opened.upload, start, Attachment(data[start : start + chunk_bytes]))
        assert state.offset == min(len(data), start + chunk_bytes)
    return opened.upload


async def download(storage: Storage, key: str, **arguments: Any) -> bytes:
    return b"".join([bytes(chunk.data) async for chunk in storage.download(key, **arguments)])


def test_a_large_object_comes_back_whole_and_in_part(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            token = await upload(storage, DATA)
            written = await storage.finish_upload(
                token, "big", media_type="video/mp4", name="b.mp4", sha256=SHA256
            )
            assert (written.bytes, written.sha256) == (len(DATA), SHA256)
            item = await storage.get("big")
            assert (item.attachment, item.sha256, item.media_type) == (None, SHA256, "video/mp4")
            assert await download(storage, "big") == DATA
            assert await download(storage, "big", start=999_990, length=20) == DATA[999_990:1_000_010]
            assert await download(storage, "big", start=len(DATA) - 5) == DATA[-5:]
            assert await download(storage, "big", start=len(DATA)) == b""

    asyncio.run(scenario())


def test_small_values_can_be_downloaded_too(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "json", {"a": 1})
            await storage.put(context, "bytes", attachment=Attachment(DATA))
            assert await download(storage, "json") == b'{"a":1}'
            assert await download(storage, "bytes", start=5, length=7) == DATA[5:12]
            assert await download(storage, "bytes") == DATA

    asyncio.run(scenario())


def test_equal_objects_are_kept_once_and_go_with_their_last_reference(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):

            async def chunks() -> object:
                return await storage.store.read(lambda c: c.execute("SELECT count(*) FROM chunks").fetchone()[0])

            for key in ("one", "two"):
                await storage.finish_upload(await upload(storage, DATA), key)
            await storage.sweep()
            assert await chunks() == 13
            assert (await storage.status()).bytes == 2 * len(DATA)
            await storage.delete(context, "one")
            await storage.sweep()
            assert await download(storage, "two") == DATA
            await storage.put(context, "two", "replaced")
            await storage.sweep()
            assert await chunks() == 0

    asyncio.run(scenario())


def test_an_object_being_downloaded_outlives_its_key(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.finish_upload(await upload(storage, DATA), "big")
            stream = storage.download("big")
            received = bytes((await anext(stream)).data)
            await storage.delete(context, "big")
            await storage.sweep()
            received += b"".join([bytes(chunk.data) async for chunk in stream])
            assert received == DATA
            await storage.sweep()
            assert await storage.store.read(lambda c: c.execute("SELECT count(*) FROM objects").fetchone()) == (0,)

    asyncio.run(scenario())


def test_an_upload_goes_on_after_a_restart(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            token = (await storage.begin_upload()).upload
            await storage.append(token, 0, Attachment(DATA[:1000]))
        async with opened() as (storage, _):
            await storage.append(token, 1000, Attachment(DATA[1000:2000]))
            written = await storage.finish_upload(token, "k", sha256=hashlib.sha256(DATA[:2000]).hexdigest())
            assert written.bytes == 2000

    asyncio.run(scenario())


def test_a_chunk_may_be_sent_again_but_not_out_of_place(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            token = (await storage.begin_upload()).upload
            for _ in range(2):
                assert (await storage.append(token, 0, Attachment(b"abc"))).offset == 3
            for offset, data in [(0, b"abX"), (0, b"abcd"), (4, b"x"), (1, b"bc")]:
                with pytest.raises(FailedPrecondition) as caught:
                    await storage.append(token, offset, Attachment(data))
                assert caught.value.details["offset"] == 3
            await storage.append(token, 3, Attachment(b"def"))
            await storage.finish_upload(token, "k")
            assert await download(storage, "k") == b"abcdef"

    asyncio.run(scenario())


def test_finishing_twice_answers_the_same(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            token = await upload(storage, b"abc")
            first = await storage.finish_upload(token, "k")
            assert await storage.finish_upload(token, "k") == first
            with pytest.raises(InvalidArgument):
                await storage.finish_upload(token, "another")
            with pytest.raises(NotFound):
                await storage.finish_upload("nothing", "k")

    asyncio.run(scenario())


def test_bytes_that_do_not_hash_as_promised_are_refused(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, _):
            token = await upload(storage, b"abc")
            with pytest.raises(FailedPrecondition, match="hashes to"):
                await storage.finish_upload(token, "k", sha256=SHA256)
            with pytest.raises(NotFound):
                await storage.get("k")

    asyncio.run(scenario())


def test_uploads_count_against_the_quota_and_are_given_up_in_time(opened: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with opened(max_bytes=1000, upload_seconds=60.0) as (storage, _):
            tokens = [(await storage.begin_upload()).upload for _ in range(2)]
            await storage.append(tokens[0], 0, Attachment(bytes(600)))
            with pytest.raises(ResourceExhausted):
                await storage.append(tokens[1], 0, Attachment(bytes(600)))
            assert await storage.abort_upload(tokens[0])
            assert not await storage.abort_upload(tokens[0])
            await storage.append(tokens[1], 0, Attachment(bytes(600)))
            clock.now += 61
            await storage.sweep()
            with pytest.raises(NotFound, match="rested too long"):
                await storage.append(tokens[1], 600, Attachment(b"x"))

    asyncio.run(scenario())


def test_a_refused_finish_leaves_the_upload_open(opened: Any) -> None:
    async def scenario() -> None:
        async with opened(collection_max_bytes=1000) as (storage, _):
            token = await upload(storage, bytes(1001))
            with pytest.raises(ResourceExhausted):
                await storage.finish_upload(token, "k")
            await storage.configure("roomy", max_bytes=2000)
            await storage.finish_upload(token, "k", "roomy")

    asyncio.run(scenario())
