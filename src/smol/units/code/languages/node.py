"""Node, where it is installed. V8 maps more than a limit on address space allows: it needs cgroups."""

from __future__ import annotations

from smol.units.code.languages.language import Language

__all__ = ["NODE"]

_PROGRAMS = ("/usr/bin/node", "/usr/local/bin/node", "/usr/bin/nodejs")

NODE = Language(
    name="node",
    description="JavaScript by Node, with its modules",
    suffix="js",
    programs=_PROGRAMS,
    needs=("namespaces", "cgroup"),
    arguments=("--max-old-space-size=512", "--single-threaded-gc", "{}"),
    check_arguments=("--check", "{}"),
    shows=_PROGRAMS,
)
