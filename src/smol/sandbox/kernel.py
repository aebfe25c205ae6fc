"""System calls that Python's standard library does not offer, by number, through ctypes.

Imported by the nursery, which runs without site-packages: standard library only. Covers mounting,
namespaces, capabilities, Landlock and openat2; which of them to use, and when, is `seal`'s to say.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys

__all__ = [
    "LandlockUnavailable",
    "capset_none",
    "clone",
    "close_above",
    "drop_bounding_set",
    "install_filter",
    "landlock_abi",
    "landlock_restrict",
    "mount",
    "open_beneath",
    "pivot_root",
    "prctl",
    "unmount",
]

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MNT_DETACH = 2
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8

_OPENAT2, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 437, 444, 445, 446  # the same everywhere
_PIVOT_ROOT, _CLONE, _CAPSET = {
    "x86_64": (155, 56, 126),
    "aarch64": (41, 220, 91),
}.get(platform.machine(), (-1, -1, -1))

if sys.platform == "linux":
    # PyDLL keeps the interpreter's lock, so that a process cloned here is as one forked by os.fork.
    _libc = ctypes.PyDLL(None, use_errno=True)


class LandlockUnavailable(OSError):
    """The kernel has no Landlock, or it is switched off."""


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(number: int, *arguments: object, what: str) -> int:
    # System calls take longs; an int of ctypes would leave the upper half undefined.
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    _libc.syscall.restype = ctypes.c_long
    return _check(int(_libc.syscall(ctypes.c_long(number), *wide)), what)


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(int(_libc.prctl(option, *padded)), f"prctl {option}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()),
        f"mount {source} on {target}",
    )


def unmount(target: str) -> None:
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    _syscall(_PIVOT_ROOT, ctypes.c_char_p(new.encode()), ctypes.c_char_p(old.encode()), what="pivot_root")


def clone(flags: int) -> int:
    """Fork into new namespaces. Only for a process with one thread. Returns as os.fork does.

    The interpreter of the child is not told. It needs not be: its one thread goes on as it was, lock and all, and
    what os.fork renews (random seeds, the state of modules that start threads) is renewed when the child forks.
    """
    return _syscall(_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0, what="clone")


def drop_bounding_set() -> None:
    """No program executed from here on can gain a capability."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the last that this kernel knows
                return
            raise


def capset_none() -> None:
    """Give up all capabilities that are in force."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    nothing = ctypes.create_string_buffer(struct.pack("=6I", 0, 0, 0, 0, 0, 0))
    _syscall(_CAPSET, header, nothing, what="capset")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def install_filter(program: bytes) -> None:
    """Put a seccomp filter (classic BPF, 8 bytes an instruction) in force for good."""
    code = ctypes.create_string_buffer(program, len(program))
    description = ctypes.create_string_buffer(struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(description))


def landlock_abi() -> int:
    """The version of Landlock that the kernel offers; 0 for none."""
    try:
        return _syscall(_LANDLOCK_CREATE, ctypes.c_void_p(None), 0, 1, what="landlock")
    except OSError:
        return 0


# Access rights by the version that brought them; linux/landlock.h.
_FILE_EXECUTE, _FILE_WRITE, _FILE_READ, _DIRECTORY_READ = 1, 2, 4, 8
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}


def landlock_restrict(readable: list[str], writable: list[str], ports: tuple[int, ...] = ()) -> int:
    """Allow reading and executing beneath `readable`, all but devices beneath `writable`, nothing else.

    TCP but to `ports`, signals and abstract sockets to the outside are denied too where the kernel knows them.
    Paths that do not exist are passed over. Returns the version in force.
    """
    abi = landlock_abi()
    if abi == 0:
        raise LandlockUnavailable(errno.EOPNOTSUPP, "the kernel has no Landlock")
    handled = sum(rights for version, rights in _RIGHTS_BY_ABI.items() if version <= abi)
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    rules = _syscall(_LANDLOCK_CREATE, buffer, len(attributes), 0, what="landlock")
    devices = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK
    try:
        for paths, rights in (
            (readable, _FILE_EXECUTE | _FILE_READ | _DIRECTORY_READ),
            (writable, handled & ~devices & ~(1 << 15)),
        ):
            for path in paths:
                _landlock_allow(rules, path, rights & handled)
        for port in ports if network else ():
            rule = ctypes.create_string_buffer(struct.pack("=QQ", 2, port), 16)  # CONNECT_TCP
            _syscall(_LANDLOCK_ADD, rules, 2, rule, 0, what=f"landlock port {port}")
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        _syscall(_LANDLOCK_RESTRICT, rules, 0, what="landlock")
    finally:
        os.close(rules)
    return abi


def _landlock_allow(rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_EXECUTE | _FILE_WRITE | _FILE_READ | 1 << 14
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        _syscall(_LANDLOCK_ADD, rules, 1, rule, 0, what=f"landlock {path}")
    finally:
        os.close(descriptor)


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open a path that must lie in `directory`, over no link of any kind and on the same mount. Raises OSError."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = ctypes.create_string_buffer(struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve), 24)
    return _syscall(_OPENAT2, directory, ctypes.c_char_p(os.fsencode(path)), how, 24, what=path)


def close_above(lowest: int, keep: list[int]) -> None:
    """Close all descriptors from `lowest` on, but those of `keep`."""
    start = lowest
    for descriptor in sorted(keep):
        os.closerange(start, descriptor)
        start = max(start, descriptor + 1)
    os.closerange(start, 1 << 20)
