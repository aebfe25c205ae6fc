"""OpenAI's SDK for Node.js. What it is asked to do is in `openai_node.mjs`."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conformance.suites import NODE, NODE_PACKAGE, node_suite, run


def test_the_sdk_for_node_works(url: str) -> None:
    folder = node_suite(NODE_PACKAGE + "@22", "openai@7")
    # Node.js looks for packages beside the script.
    script = shutil.copy(Path(__file__).with_name("openai_node.mjs"), folder)
    done = run([folder / NODE, "--test", "--test-reporter=tap", script], 300, folder, {"SMOL_URL": url})
    assert done.returncode == 0, done.stdout
    assert "# pass 13\n" in done.stdout, done.stdout
