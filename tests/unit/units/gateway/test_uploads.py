"""Files sent to `/v1/files`: on disk as they come, within bounds, and nothing left of those that do not arrive."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from smol.units.gateway.app import Application
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.problems import Style
from smol.units.gateway.requests import Bodies, ClientGone, Visit
from smol.units.gateway.settings import GatewaySettings
from smol.units.openai import files as files_module
from smol.units.openai.files import Files, Upload
from smol.units.openai.transfers import read_upload

FORM = {"content-type": "multipart/form-data; boundary=X"}
PURPOSE = b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
FILE = (
    b'--X\r\nContent-Disposition: form-data; name="file"; filename="C:\\pics\\a.png"'
    b"\r\nContent-Type: image/png\r\n\r\n"
)
END = b"\r\n--X--\r\n"
BYTES = bytes(range(256)) * 2048


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], list[str]]:
    """The endings of what lies where files are kept."""
    return lambda: sorted(path.name.partition(".")[2] for path in (tmp_path / "files").glob("*"))


@pytest.fixture
def send(ask: Any, fake_host: Any, tmp_path: Path) -> Callable[..., Any]:
    settings = GatewaySettings(max_body_bytes=1 << 20, max_held_bytes=1 << 10)
    app = Application(settings, fake_host(), KeyFile(tmp_path / "keys.json"), tmp_path)

    def run(path: str, body: bytes | Iterable[bytes] = b"", **options: Any) -> Any:
        return asyncio.run(ask(app, path, body, **{"headers": FORM, **options}))

    return run


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 20])
def test_a_file_comes_and_goes_in_pieces_beyond_what_may_be_held(send: Any, kept: Any, size: int) -> None:
    file = send("/v1/files", cut(PURPOSE + FILE + BYTES + END, size)).json
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(BYTES), "a.png", "vision")
    assert kept() == ["bin", "json"]
    content = send(f"/v1/files/{file['id']}/content")
    assert content.body == BYTES
    assert content.headers["content-length"] == str(len(BYTES))
    assert content.headers["content-security-policy"] == "sandbox"
    assert [each["id"] for each in send("/v1/files").json["data"]] == [file["id"]]
    send(f"/v1/files/{file['id']}", method="DELETE")
    assert kept() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (PURPOSE + FILE + BYTES, 400),
        (FILE + b"x\r\n" + FILE + b"y" + END, 400),
        (PURPOSE + b"--X--\r\n", 400),
        (b'--X\r\nContent-Disposition: form-data; name="note"\r\n\r\n' + b"n" * 9000 + END, 400),
        (FILE + BYTES * 3 + END, 413),
        (b"no form", 400),
    ],
)
def test_nothing_stays_of_what_is_refused(send: Any, kept: Any, body: bytes, status: int) -> None:
    answer = send("/v1/files", cut(body, 50_000))
    assert answer.status == status
    assert answer.json["error"]["message"]
    assert kept() == []


def test_a_full_store_says_so_and_is_not_tried_again(
    send: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MOST_BYTES", len(BYTES) + 10)
    assert send("/v1/files", cut(FILE + BYTES + END, 50_000)).status == 200
    answer = send("/v1/files", FILE + b"more than ten" + END)
    assert (answer.status, answer.headers["x-should-retry"]) == (507, "false")
    assert answer.json["error"]["code"] == "resource_exhausted"
    assert kept() == ["bin", "json"]


def test_a_full_disk_is_told_of(send: Any, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Upload, data: bytearray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Upload, "_write", full)
    answer = send("/v1/files", FILE + BYTES + END)
    assert answer.status == 507
    assert "No space left" in answer.json["error"]["message"]
    assert kept() == []


def test_files_on_their_way_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MOST_BYTES", 100)
    files = Files(tmp_path)

    async def scenario() -> None:
        async with files.upload() as one:
            await one.write(b"x" * 60)
            async with files.upload() as two:
                with pytest.raises(Exception, match="there is room for"):
                    await two.write(b"x" * 41)
                await two.write(b"x" * 40)
        async with files.upload() as three:
            await three.write(b"x" * 100)
            await files.keep(three, "", "text/plain", "user_data")

    asyncio.run(scenario())
    assert [file.bytes for file in files.list()] == [100]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    visit = Visit({b"content-type": FORM["content-type"].encode()}, "1", Style.OPENAI, True)
    seen: list[list[Path]] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": FILE + BYTES, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        seen.append(list(tmp_path.iterdir()))
        return messages.pop(0)

    with pytest.raises(ClientGone):
        asyncio.run(read_upload(visit, receive, Bodies(1 << 20, 1 << 20, 5.0), Files(tmp_path)))
    assert len(seen[1]) == 1
    assert seen[1][0].suffix == ".part"
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_left_half_way_is_swept(tmp_path: Path) -> None:
    whole = "file-" + "a" * 24
    for name in (f"{whole}.bin", f"{whole}.json", f"file-{'b' * 24}.bin", "upload-1.part", "upload-1.json.part"):
        (tmp_path / name).write_bytes(b"{}")
    Files(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{whole}.bin", f"{whole}.json"]
