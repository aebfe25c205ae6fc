"""Shell: bash or sh with the host's own small tools. Its processes need cgroups and namespaces to hold them."""

from __future__ import annotations

from smol.units.code.languages.language import Language

__all__ = ["SHELL"]

SHELL = Language(
    name="shell",
    description="bash, or sh, with the programs of /usr/bin",
    suffix="sh",
    programs=("/usr/bin/bash", "/bin/bash", "/usr/bin/sh", "/bin/sh"),
    needs=("namespaces", "cgroup"),
    check_arguments=("-n", "{}"),
    shows=("/usr/bin", "/bin", "/etc/alternatives"),
)
