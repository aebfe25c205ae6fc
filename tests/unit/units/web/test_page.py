"""The web page's files: small, of our own, and under a strict policy."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from starlette.routing import Route

import smol.units.web.page
from smol.units.web.page import CONTENT_SECURITY_POLICY, routes

STATIC = Path(smol.units.web.page.__file__).parent / "static"
FILES = sorted(STATIC.iterdir())
PAGES = {
    "index.html": ("common.js", "app.js", "playground.js", "programs.js"),
    "docs.html": ("common.js", "docs.js"),
}


def test_all_of_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < 100_000


def test_the_policy_lets_nothing_in_from_elsewhere_or_in_line() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_asks_another_server(file: Path) -> None:
    addresses = re.findall(r"https?://[^\s\"'`<]+", file.read_text())
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_in_line_that_the_policy_would_stop(name: str) -> None:
    page = (STATIC / name).read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".js"], ids=lambda file: file.name)
def test_no_script_writes_html_or_evaluates_text(file: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", file.read_text()
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_field_has_a_label_and_every_name_is_there_once(name: str) -> None:
    page = (STATIC / name).read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', page)) | {"with-photo"}  # Inside of its label.
    assert set(re.findall(r'<(?:input|select|textarea)[^>]* id="([^"]+)"', page)) <= labelled
    for script in PAGES[name]:
        assert set(re.findall(r'\$\("([^"]+)"\)', (STATIC / script).read_text())) <= set(ids)


def test_every_file_is_served_with_the_policy() -> None:
    for route in routes():
        assert isinstance(route, Route)
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object], sent: list[dict[str, object]] = sent) -> None:
            sent.append(message)

        asyncio.run(route.app({"type": "http", "method": "GET", "path": route.path}, None, send))  # type: ignore[arg-type]
        assert (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()) in sent[0]["headers"]  # type: ignore[operator]
        assert sent[1]["body"]
