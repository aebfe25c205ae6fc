"""The web page under axe-core in headless Chromium: no rule of WCAG 2.2 A and AA is broken, nor of good use."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.suites import node_suite

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def complaints(page: Any) -> list[str]:
    """What axe finds, with the elements."""
    found = page.evaluate("(tags) => axe.run(document, { runOnly: tags })", TAGS)
    assert len(found["passes"]) > 10
    return [f"{each['id']}: {[node['html'][:150] for node in each['nodes']]}" for each in found["violations"]]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_axe_finds_nothing(url: str, browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    script = node_suite("axe-core@4.14") / "node_modules" / "axe-core" / "axe.min.js"
    # What is added to the page is the test's: the page's own policy would refuse it.
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    page.add_script_tag(path=str(script))
    page.wait_for_selector("#legend li:has-text('gateway')")
    page.wait_for_selector("#operation option[value='math.evaluate']", state="attached")
    assert complaints(page) == []

    page.fill("#argument-expression", "6*7")
    page.click("#run")
    page.wait_for_selector('#result:has-text(\'"exact": "42"\')')
    page.fill("#question", "6*7")
    page.press("#question", "Enter")
    page.wait_for_selector("#chat p:has-text('42')")
    picture = tmp_path / "dot.png"
    picture.write_bytes(base64.b64decode(PNG))
    page.set_input_files("#file", str(picture))
    page.wait_for_selector("#seen:not(:has-text('looking'))")
    for details in page.query_selector_all("details"):
        details.evaluate("(each) => { each.open = true }")
    assert complaints(page) == []

    page.goto(f"{url}/docs#detect.image")
    page.add_script_tag(path=str(script))
    page.wait_for_selector("[id='detect.image'][open] table")
    assert complaints(page) == []
    context.close()
