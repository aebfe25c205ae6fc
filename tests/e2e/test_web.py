"""The web page in a browser. Needs Playwright, and Chromium as Debian installs it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PROGRAM = "name: area\nsteps:\n  - call: math.evaluate\n    with: {expression: 6*7}\n"


@pytest.fixture
def url(start: Any) -> Iterator[str]:
    with start() as client:
        client.executor.submit(PROGRAM)
        yield client.gateway.address()["url"]


def test_every_operation_is_explained(url: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{url}/docs#storage.nearest")
    page.wait_for_selector("[id='storage.nearest'][open] caption:has-text('Match')")

    document: Any = page.request.get(f"{url}/openapi.json").json()
    names = {path["post"]["operationId"] for path in document["paths"].values()}
    assert {each.get_attribute("id") for each in page.query_selector_all(".operation")} == names
    page.evaluate("for (const each of document.querySelectorAll('.operation')) each.open = true")
    page.wait_for_function(f"document.querySelectorAll('.operation > p.quiet').length == {len(names)}")
    assert page.locator("body").evaluate("(body) => body.scrollWidth") <= 390

    page.fill("#filter", "picture boxes drawn")
    assert page.locator(".operation:visible").count() == 0
    page.fill("#filter", "evaluate expression")
    assert page.locator(".operation:visible").count() >= 1
    page.click("[id='math.evaluate'] a:has-text('Try it')")
    page.wait_for_selector("#argument-expression")
    assert complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_does_what_it_shows(url: str, browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    elsewhere: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "data:")) else elsewhere.append(request.url),
    )
    page.goto(url)
    page.wait_for_selector("#legend li:has-text('gateway')")
    page.wait_for_selector("#units li:has-text('math')")
    page.wait_for_selector("#operation option[value='math.evaluate']", state="attached")

    page.fill("#argument-expression", "6*7")
    page.click("#run")
    page.wait_for_selector('#result:has-text(\'"exact": "42"\')')
    assert page.locator("#equivalents pre").all_inner_texts()[2] == "smol math evaluate '6*7'"

    page.fill("#question", "convert 5 miles to km")
    page.press("#question", "Enter")
    page.wait_for_selector("#chat p:has-text('8.04672 km')")

    picture = tmp_path / "dot.png"
    picture.write_bytes(base64.b64decode(PNG))
    page.set_input_files("#file", str(picture))
    page.wait_for_selector("#seen:not(:has-text('looking'))")
    assert page.locator("#canvas").is_visible()

    page.select_option("#operation", "storage.get")
    page.fill("#argument-key", "nothing")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:has-text('NOT_FOUND')")

    page.wait_for_selector("#runs summary:has-text('area')", timeout=20_000)
    page.press("#runs summary", "Enter")
    page.wait_for_selector("#runs li:has-text('math.evaluate'):has-text('42')")
    assert page.locator("#decisions li").first.inner_text() != "Nothing yet."

    assert page.locator("body").bounding_box()["width"] <= width
    assert page.locator("main").bounding_box()["x"] >= 0
    assert elsewhere == []
    # What was asked for is not there, or a unit can't start here; the page says so and goes on.
    assert [text for text in complaints if not re.search("status of (404|409|503)", text)] == []
