"""`langchain-openai` under LangChain's own standard tests, through both of OpenAI's APIs."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.suites import python_suite, run

REQUIREMENTS = ("langchain-openai==1.7.*", "langchain-tests==1.1.*")
PASSED_AT_LEAST = 80
_SESSION = (
    "asyncio_mode=auto",
    "asyncio_default_test_loop_scope=session",
    "asyncio_default_fixture_loop_scope=session",
)


def test_the_standard_tests_of_chat_models_pass(url: str, tmp_path: Path) -> None:
    python = python_suite(*REQUIREMENTS)
    suite = Path(__file__).with_name("langchain_chat.py")
    options = [word for option in _SESSION for word in ("-o", option)]
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "--noconftest",
        "-c",
        "/dev/null",
        *options,
        suite,
    ]
    done = run(command, 400, tmp_path, {"SMOL_URL": url, "LANGSMITH_TRACING": "false"})
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= PASSED_AT_LEAST, done.stdout
