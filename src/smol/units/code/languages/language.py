"""What a language is to the sandbox."""

from __future__ import annotations

import os

import msgspec

__all__ = ["Language"]


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """One language.

    programs: places of the program that runs it, the first that exists is taken; none: it runs in the
    sandbox's own interpreter. needs: layers without which it can't be held, or can't work.
    arguments, check_arguments: after the program; `{}` is the file with the source.
    shows: what of the host the program is shown. harness: Python before a call `run(source)`, for a language that
    the sandbox's own interpreter hosts. checker: Python that checks source on its standard input.
    """

    name: str
    description: str
    suffix: str
    programs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ("{}",)
    check_arguments: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    memory_bytes: int = 0
    harness: str = ""
    checker: str = ""

    def program(self) -> str | None:
        """Where its program is on this machine; None when it is not installed."""
        return next((path for path in self.programs if os.access(path, os.X_OK)), None)

    def python(self, source: str) -> str:
        """What the sandbox's own interpreter runs."""
        return f"{self.harness}run({source!r})" if self.harness else source

    def source_file(self) -> str:
        return f"/tmp/source.{self.suffix}"  # noqa: S108  (in the sandbox)

    def command(self, *, check: bool = False) -> tuple[str, ...]:
        """What to execute."""
        arguments = self.check_arguments if check else self.arguments
        return (self.program() or "", *(argument.replace("{}", self.source_file()) for argument in arguments))
