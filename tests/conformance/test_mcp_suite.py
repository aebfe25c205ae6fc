"""The official suite of the Model Context Protocol, over both of its wires, against `/mcp`.

What the suite can't test of Smol is listed below with the reason; anything else that fails is a fault, and
so is anything listed that passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.conformance.suites import NODE, NODE_PACKAGE, node_suite, run

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
CHECKS_AT_LEAST = {"2025-11-25": 12, "2026-07-28": 50}

NOT_OFFERED: Mapping[str, tuple[str, ...]] = {
    "Smol has no prompts": (
        "prompts-*",
        "sep-2549-prompts-list-caching-hints",
        "sep-2322-non-tool-incomplete",
    ),
    "Smol completes no arguments": ("completion-complete",),
    "Smol asks its client for nothing: no sampling, no elicitation, no list of roots": (
        "elicitation-sep*",
        "tools-call-sampling",
        "tools-call-elicitation",
        "sep-2322-*",
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
    ),
    "Smol sends no log to clients, which 2026-07-28 gave up": ("logging-set-level", "tools-call-with-logging"),
    "resources at fixed addresses of the suite (test://…); e2e tests read those that Smol has": (
        "resources-read-text",
        "resources-read-binary",
        "resources-templates-read",
    ),
    "resources don't tell of changes": ("resources-subscribe", "resources-unsubscribe"),
    "the extension for tasks is not offered": ("tasks-*", "sep-2663-*"),
    "arguments are not repeated in headers, which is a tool's choice": (
        "sep-2243-server-no-xmcp-tool",
        "sep-2243-server-decode-base64",
        "sep-2243-server-validate-param-match",
        "sep-2243-server-reject-invalid-param-chars",
        "sep-2243-server-reject-param-mismatch",
    ),
    "a tool whose schema nobody could derive from an operation": ("json-schema-2020-12-tool-found",),
}


def is_excused(check: str) -> bool:
    patterns = [pattern for patterns in NOT_OFFERED.values() for pattern in patterns]
    return any(fnmatchcase(check, pattern) for pattern in patterns)


def statuses(folder: Path) -> dict[str, set[str]]:
    """Which statuses each check of the suite ended with."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("*/checks.json"):
        for check in json.loads(path.read_text()):
            found.setdefault(check["id"], set()).add(check["status"])
    return found


@pytest.mark.parametrize("revision", list(CHECKS_AT_LEAST))
def test_what_smol_offers_passes(url: str, tmp_path: Path, revision: str) -> None:
    folder = node_suite(NODE_PACKAGE + "@22", SUITE)
    command = folder / "node_modules" / ".bin" / "conformance"
    arguments = ["server", "--url", f"{url}/mcp", "--requirements", revision, "--output-dir", str(tmp_path)]
    said = run([folder / NODE, command, *arguments], 300, folder).stdout
    found = statuses(tmp_path)
    failed = {check for check, ends in found.items() if "FAILURE" in ends}
    assert sorted(check for check in failed if not is_excused(check)) == [], said
    assert sum("SUCCESS" in ends for ends in found.values()) >= CHECKS_AT_LEAST[revision], said


def test_what_is_excused_really_fails(url: str, tmp_path: Path) -> None:
    folder = node_suite(NODE_PACKAGE + "@22", SUITE)
    command = folder / "node_modules" / ".bin" / "conformance"
    for revision in CHECKS_AT_LEAST:
        arguments = ["server", "--url", f"{url}/mcp", "--requirements", revision, "-o", str(tmp_path / revision)]
        run([folder / NODE, command, *arguments], 300, folder)
    failed = {
        check
        for revision in CHECKS_AT_LEAST
        for check, ends in statuses(tmp_path / revision).items()
        if "FAILURE" in ends
    }
    for reason, patterns in NOT_OFFERED.items():
        for pattern in patterns:
            assert any(fnmatchcase(check, pattern) for check in failed), f"{pattern} passes, although {reason}"
