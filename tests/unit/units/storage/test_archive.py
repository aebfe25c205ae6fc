from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from smol.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from smol.sdk import Attachment, Context
from smol.units.storage.unit import Storage


async def fill(storage: Storage, context: Context) -> None:
    await storage.configure("notes", max_items=50, text_fields=["t"])
    await storage.put(context, "json", {"t": "a cat"}, "notes", vector=[1.0, 2.5])
    await storage.put(context, "short", None, "notes", ttl_seconds=50)
    await storage.put(context, "bytes", attachment=Attachment(b"\0\xff", "image/x", "n.x"))
    for key in ("big", "same"):
        token = (await storage.begin_upload()).upload
        await storage.append(token, 0, Attachment(b"abc" * 1000))
        await storage.append(token, 3000, Attachment(b"def"))
        await storage.finish_upload(token, key, "notes", name="big.bin")


async def export(storage: Storage, collection: str | None = None) -> bytes:
    chunks = [bytes(chunk.data) async for chunk in storage.export(collection)]
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    return b"".join(chunks)


async def wipe(storage: Storage) -> None:
    for info in await storage.collections():
        await storage.drop(info.name)
    await storage.sweep()


def test_an_export_loads_into_what_it_was_made_from(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await fill(storage, context)
            before = await export(storage)
            assert len([json.loads(line) for line in before.splitlines()]) == 2 + 5 + 2 * 2
            await wipe(storage)
            for _ in range(2):
                loaded = await storage.load(Attachment(before))
                assert (loaded.items, loaded.chunks) == (5, 4)
                assert await export(storage) == before
            assert [match.key for match in await storage.search("cat", "notes")] == ["json"]
            assert (await storage.get("short", "notes")).expires_at == 1_000_050
            data = b"".join([bytes(chunk.data) async for chunk in storage.download("same", "notes")])
            assert data == b"abc" * 1000 + b"def"
            assert b"notes" not in await export(storage, "default")
            with pytest.raises(NotFound):
                await export(storage, "nothing")

    asyncio.run(scenario())


def test_a_load_names_the_line_that_is_wrong(opened: Any) -> None:
    data = base64.b64encode(b"abc").decode()
    right = hashlib.sha256(b"abc").hexdigest()
    cases = [
        (b'{"key": "k"}', InvalidArgument),
        (b'{"key": "k", "value": 1, "data": ""}', InvalidArgument),
        (b'{"key": "k", "value": 1, "extra": 1}', InvalidArgument),
        (b'{"key": "k", "data": "?"}', InvalidArgument),
        (b"[1]", InvalidArgument),
        (b"{", InvalidArgument),
        (json.dumps({"object": right, "start": 3, "data": data}).encode(), NotFound),
        (json.dumps({"key": "k", "sha256": right}).encode(), NotFound),
        (
            json.dumps({"object": "0" * 64, "start": 0, "data": data}).encode()
            + b"\n"
            + json.dumps({"key": "k", "sha256": "0" * 64}).encode(),
            FailedPrecondition,
        ),
    ]

    async def scenario() -> None:
        async with opened() as (storage, _):
            for text, kind in cases:
                with pytest.raises(kind) as caught:
                    await storage.load(Attachment(b'{"key": "first", "value": 1}\n\n' + text))
                assert caught.value.details["line"] == 3 + text.count(b"\n")
            assert (await storage.get("first")).value == 1

    asyncio.run(scenario())


def test_a_backup_restores_all_and_versions_go_on(opened: Any) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await fill(storage, context)
            before = await export(storage)
            info = await storage.backup("monday")
            assert await storage.backups() == [info]
            with pytest.raises(AlreadyExists):
                await storage.backup("monday")
            await wipe(storage)
            last = await storage.put(context, "new", 1)
            former = await storage.restore("monday")
            assert Path(former).exists()
            assert await export(storage) == before
            assert (await storage.put(context, "newer", 1)).version > last.version
            with pytest.raises(FailedPrecondition, match="forgotten"):
                await anext(storage.watch(since=last.version))
            with pytest.raises(NotFound):
                await storage.restore("tuesday")
            assert await storage.delete_backup("monday")
            assert not await storage.delete_backup("monday")

    asyncio.run(scenario())


def test_a_damaged_store_is_set_aside_and_said_so_until_it_is_gone(opened: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened() as (storage, context):
            await storage.put(context, "k", "x" * 100_000)
        path = tmp_path / "storage.db"
        damaged = path.read_bytes()[:4096] + b"\xa5" * 50_000
        path.write_bytes(damaged)
        for _ in range(2):
            async with opened() as (storage, _):
                status = await storage.status()
                assert [Path(name).read_bytes() for name in status.set_aside] == [damaged]
                assert status.items == 0
        path.write_bytes(damaged)
        with pytest.raises(DataLoss):
            async with opened(when_corrupt="refuse"):
                pass
        assert path.read_bytes() == damaged

    asyncio.run(scenario())
