"""What is asked of a sandbox and what comes of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from smol.sizes import KIB, MIB
from smol.types import Json

__all__ = ["LAYERS", "TIERS", "Isolation", "Job", "Kind", "Limits", "Outcome", "Product", "Tier", "Verdict"]

Tier: TypeAlias = Literal["strong", "nocgroup", "landlock", "none"]
Verdict: TypeAlias = Literal[
    "ok", "error", "timeout", "memory", "processes", "output", "disk", "forbidden", "cancelled"
]
TIERS: tuple[Tier, ...] = ("none", "landlock", "nocgroup", "strong")
"""From the weakest to the strongest."""
LAYERS = ("uid", "namespaces", "cgroup", "landlock", "rlimits", "seccomp")


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """What holds a sandbox.

    layers: those in force. missing: the others, each with the reason; fix: the command that would help most.
    """

    tier: Tier
    layers: list[str]
    missing: dict[str, str] = {}
    fix: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may use. output_bytes: kept of each stream; forty times as much ends the run."""

    timeout_ms: int = 5000
    memory_bytes: int = 128 * MIB
    disk_bytes: int = 32 * MIB
    files: int = 2048
    processes: int = 64
    output_bytes: int = 256 * KIB
    artifact_bytes: int = 16 * MIB
    artifacts: int = 64


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox is built for. Sandboxes of one kind are interchangeable until they have run something.

    profile: of seccomp. binds: pairs of a place on the host and where it is seen, read-only.
    paths: where Python imports from, in there; outer_paths: the same on the host, where there is no private root.
    network: it can reach a proxy. Needs namespaces.
    """

    name: str
    profile: Literal["embedded", "program"] = "embedded"
    binds: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()
    outer_paths: tuple[str, ...] = ()
    network: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run. argv: the program to execute; empty to run Python in the sandbox's own interpreter.

    source_file: where the program finds its source. keep: the interpreter's state stays for the next.
    """

    source: str
    stdin: bytes = b""
    files: dict[str, bytes] = {}
    argv: tuple[str, ...] = ()
    source_file: str = ""
    environment: dict[str, str] = {}
    keep: bool = False


class Product(msgspec.Struct, frozen=True):
    """A file that the code left behind."""

    name: str
    data: bytes


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run. alive: whether the sandbox can run another."""

    verdict: Verdict
    exit_status: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    value: Json
    value_text: str | None
    products: list[Product]
    left_out: list[str]
    wall_ms: float
    cpu_ms: float | None
    peak_memory_bytes: int | None
    alive: bool = False
