"""How much memory processes take, as the kernel counts it."""

from __future__ import annotations

__all__ = ["pss_bytes"]


def pss_bytes(pid: int) -> int:
    """Proportional share of memory of a process, in bytes; 0 when it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
