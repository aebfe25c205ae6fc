"""Writes src/smol/sandbox/numbers.py: the numbers of the system calls that the filters name.

Needs libseccomp (Debian: libseccomp2), which knows the tables of all architectures. Run it after a change of
the lists in src/smol/sandbox/seccomp.py: python tools/syscall_numbers.py
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from smol.sandbox import seccomp

ROOT = Path(__file__).parents[1]
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def main() -> int:
    library = ctypes.CDLL("libseccomp.so.2")
    lists = (seccomp.ALLOWED, seccomp.WITH_PROCESSES, seccomp.WITH_NETWORK)
    names = sorted({name for text in lists for name in text.split()} | set(seccomp.CHECKED))
    lines = [
        '"""Numbers of system calls by architecture. Written by tools/syscall_numbers.py; don\'t edit."""',
        "",
        "from __future__ import annotations",
        "",
        '__all__ = ["NUMBERS"]',
        "",
        "NUMBERS = {",
    ]
    for machine, token in ARCHITECTURES.items():
        lines.append(f'    "{machine}": {{')
        for name in names:
            number = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
            if number >= 0:  # aarch64 lacks the older calls
                lines.append(f'        "{name}": {number},')
        lines.append("    },")
    (ROOT / "src/smol/sandbox/numbers.py").write_text("\n".join([*lines, "}", ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
