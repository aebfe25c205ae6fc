"""The example `photo-diary`: its unit by itself, and the whole of it on real pictures."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import smol
from smol.client import Client, Connector
from smol.errors import InvalidArgument, NotFound, SmolError

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "photo-diary"
DIARY = (EXAMPLE / "diary.yaml").read_text()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def host(tmp_path: Path, photos: Path, **more: str) -> Connector:
    config = tmp_path / "smol.toml"
    units = f'unit_directories = ["{EXAMPLE / "folder"}"]'
    config.write_text(f'[host]\n{units}\n[units.folder]\npath = "{photos}"\npoll_seconds = 0.1\n')
    return smol.local({"SMOL_HOME": str(tmp_path / "home"), "SMOL_CONFIG": str(config), **more}, config=config)


def paint(path: Path, colour: str) -> None:
    Image.new("RGB", (16, 16), colour).save(path)


async def _names(client: Client, **arguments: Any) -> list[str]:
    return [item["name"] async for item in client.stream("folder.pictures", {"follow": False, **arguments})]


async def test_the_folder_shows_pictures_that_are_there_and_those_that_come(tmp_path: Path, photos: Path) -> None:
    paint(photos / "b.png", "red")
    paint(photos / "a.JPG", "blue")
    (photos / "notes.txt").write_text("no picture")
    (photos / "link.png").symlink_to(photos / "b.png")
    os.utime(photos / "a.JPG", (0, 86_400 * 365))
    async with host(tmp_path, photos) as client:
        assert await _names(client) == ["a.JPG", "b.png"]
        assert await _names(client, day="1971-01-01") == ["a.JPG"]
        following = aiter(client.stream("folder.pictures", {"follow": True}))
        assert [(await anext(following))["name"] for _ in range(2)] == ["a.JPG", "b.png"]
        paint(photos / "c.png", "green")
        shutil.copy(photos / "c.png", photos / "d.png")
        third, fourth = await anext(following), await anext(following)
        assert (third["name"], fourth["name"], third["id"] == fourth["id"]) == ("c.png", "d.png", True)
        assert third["day"] == datetime.now().strftime("%Y-%m-%d")


async def test_the_folder_lets_nobody_out_of_it(tmp_path: Path, photos: Path) -> None:
    paint(tmp_path / "secret.png", "black")
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    async with host(tmp_path, photos) as client:
        for name in ("../secret.png", "/etc/passwd", "link.png", ".hidden.png", "notes.txt", "a\0b.png", ""):
            with pytest.raises(InvalidArgument):
                await client.call("folder.read", {"name": name})
        with pytest.raises(NotFound):
            await client.call("folder.read", {"name": "gone.png"})
        for name in ("../x.md", "x.py", ".x.md"):
            with pytest.raises(InvalidArgument):
                await client.call("folder.note", {"name": name, "text": ""})


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with host(tmp_path, tmp_path / "missing") as client:
        with pytest.raises(SmolError, match="missing is not a directory; make it"):
            await client.call("folder.read", {"name": "a.png"})


async def test_the_diary_has_no_mistakes(tmp_path: Path, photos: Path) -> None:
    async with host(tmp_path, photos) as client:
        assert await client.call("executor.check", {"program": DIARY}) == []


@pytest.mark.timeout(180)
async def test_new_photos_are_looked_at_kept_searchable_and_summed_up(
    tmp_path: Path, photos: Path, shared: Path
) -> None:
    pictures = sorted((shared / "datasets" / "coco-val64" / "images").glob("*.jpg"))[:5]
    today = datetime.now().strftime("%Y-%m-%d")
    for picture in pictures[:3]:
        shutil.copyfile(picture, photos / picture.name)
    async with host(tmp_path, photos, SMOL_MODEL_MIRROR=str(shared / "models")) as client:
        patient = client.within(120)
        await patient.call("executor.run", {"program": DIARY, "input": {"follow": False}})
        note = (photos / f"{today}.md").read_text()
        assert note.startswith(f"# {today}\n\n3 photos with ")
        assert all(f"- {picture.name}: " in note for picture in pictures[:3])
        kept = (await client.call("storage.list", {"collection": "photos"}))["entries"]
        people = sum(entry["value"]["people"] for entry in kept)
        assert (await client.call("registers.get", {"name": "people_seen"}))["value"] == people
        label = next(entry["value"]["labels"] for entry in kept if entry["value"]["labels"]).split(", ")[0]
        found = await client.call("storage.search", {"query": f'"{label}"', "collection": "photos"})
        assert {match["key"] for match in found} == {
            entry["key"] for entry in kept if label in entry["value"]["labels"]
        }

        run = (await client.call("executor.submit", {"program": DIARY, "input": {"follow": True}}))["id"]
        for picture in pictures[2:]:  # One of them was looked at before.
            shutil.copyfile(picture, photos / f"new-{picture.name}")
        deadline = time.monotonic() + 60
        while f"- new-{pictures[4].name}: " not in (photos / f"{today}.md").read_text():
            assert (await client.call("executor.status", {"run": run}))["state"] == "running"
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        kept = (await client.call("storage.list", {"collection": "photos"}))["entries"]
        assert len(kept) == 5
        assert (photos / f"{today}.md").read_text().startswith(f"# {today}\n\n5 photos with ")
        assert (await client.call("executor.cancel", {"run": run}))["state"] == "cancelled"
