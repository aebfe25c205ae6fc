"""Schemathesis: requests made from our own /openapi.json, good and bad. No answer is a fault, or of a status,
type or shape that the document does not have.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.suites import python_suite, run

SECONDS = 75
CASES_AT_LEAST = 300
"""What a busy machine manages in that time; a quiet one some thousands."""
_LIFECYCLE = "lifecycle/(add|disable|drain|enable|reload|remove|restart|start|stop)"
_MEMORY = "memory/(set_budget|reserve|settle|release|pin|unpin|trim)"
_CODE = "code/(run|session_[a-z]+)|executor/(run|submit|resume)"
ELSEWHERE = f"/({_LIFECYCLE}|{_MEMORY}|{_CODE}|test/[a-z_]+)$"
"""Operations that stop or change what the suite talks to, or run what it makes up: other tests have them."""


def test_no_request_meets_a_fault_or_an_unlisted_answer(url: str, tmp_path: Path) -> None:
    python = python_suite("schemathesis==4.32.*")
    config = Path(__file__).with_name("schemathesis.toml")
    options = {
        "--exclude-path-regex": ELSEWHERE,
        "--exclude-by": "x-smol/streaming == true",
        "--phases": "examples,coverage,fuzzing",
        "--max-time": str(SECONDS),
        "--max-examples": "20",
        "--workers": "2",
        "--seed": "1",
    }
    words = [word for option in options.items() for word in option]
    command: list[str | Path] = [python.with_name("st"), "--config-file", config, "run", f"{url}/openapi.json"]
    done = run([*command, *words, "--continue-on-failure", "--no-color"], 300, tmp_path)
    assert done.returncode == 0, done.stdout
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None, done.stdout
    assert int(cases[1]) >= CASES_AT_LEAST, done.stdout
