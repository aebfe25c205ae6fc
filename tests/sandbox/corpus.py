"""Programs to run in sandboxes, kept as text: `### name [key=value,...]`, the source, `=> expected`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["HERE", "Program", "load"]

HERE = Path(__file__).parent
_HEAD = re.compile(r"^### ([\w-]+)(?: \[(.*)\])?$")


@dataclass(frozen=True)
class Program:
    """options: language, verdict (several: any of them), timeout (ms), memory (MiB), stdin, status, artifact."""

    name: str
    topic: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    expected: object = None

    @property
    def language(self) -> str:
        return self.options.get("language", "python")

    @property
    def timeout_ms(self) -> int:
        return int(self.options.get("timeout", "5000"))

    @property
    def memory_bytes(self) -> int:
        return int(self.options.get("memory", "128")) << 20

    @property
    def verdicts(self) -> set[str]:
        """None given: any."""
        return set(self.options["verdict"].split("|")) if "verdict" in self.options else set()

    def with_facts(self, facts: Mapping[str, str]) -> str:
        """The source, with `{name}` replaced by facts about the host."""
        text = self.source
        for name, value in facts.items():
            text = text.replace("{" + name + "}", value)
        return text.replace("{{", "{").replace("}}", "}")

    def expecting(self, facts: Mapping[str, str]) -> Program:
        """The same, with the facts in what it is expected to say."""
        expected = self.expected
        if isinstance(expected, str):
            for name, value in facts.items():
                expected = expected.replace("{" + name + "}", value)
        return replace(self, expected=expected)


def load(folder: str) -> list[Program]:
    programs = [program for path in sorted((HERE / folder).glob("*.programs")) for program in _read(path)]
    names = [program.name for program in programs]
    if len(set(names)) != len(names):
        raise ValueError(f"two programs have one name: {sorted(n for n in names if names.count(n) > 1)}")
    return programs


def _read(path: Path) -> Iterator[Program]:
    blocks: list[list[str]] = []
    for line in path.read_text().splitlines():
        if line.startswith("### "):
            blocks.append([line])
        else:
            blocks[-1].append(line)
    for head, *lines in blocks:
        match = _HEAD.match(head)
        if match is None:
            raise ValueError(f"{path.name}: malformed {head!r}")
        options = dict(_option(part) for part in (match[2] or "").split(",") if part)
        expected = None
        if lines and lines[-1].startswith("=> "):
            expected = ast.literal_eval(lines.pop()[3:])
        yield Program(match[1], path.stem, "\n".join(lines) + "\n", options, expected)


def _option(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value.replace("\\n", "\n")
