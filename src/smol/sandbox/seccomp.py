"""The system calls that sandboxed code may make: an allow-list, assembled to classic BPF.

Two profiles: `embedded` code runs in the interpreter at hand and may start threads, not processes or
programs; `program` may start both. Either may be given TCP over IPv4, for a network namespace whose
only other end is a proxy. What is not named fails with EPERM; a call of another architecture kills.
Standard library only: see `kernel`. Numbers come from `numbers`.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct
from collections.abc import Iterable

from smol.sandbox.numbers import NUMBERS

__all__ = ["ALLOWED", "CHECKED", "WITH_NETWORK", "WITH_PROCESSES", "build_filter"]

ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
    open openat creat access faccessat faccessat2 stat lstat fstat newfstatat statx statfs fstatfs
    readlink readlinkat getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir unlink unlinkat
    link linkat symlink symlinkat chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes
    utimensat futimesat truncate ftruncate fallocate fsync fdatasync sync_file_range fadvise64 flock
    getdents getdents64 umask sendfile copy_file_range splice tee dup dup2 dup3 pipe pipe2
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    mmap munmap mremap mprotect madvise brk msync mincore membarrier rseq
    futex futex_waitv set_robust_list get_robust_list set_tid_address arch_prctl
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigpending rt_sigtimedwait sigaltstack
    restart_syscall pause alarm setitimer getitimer timer_create timer_settime timer_gettime timer_delete
    timer_getoverrun nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    getpid getppid gettid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getpgid getsid
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max
    sched_get_priority_min sched_rr_get_interval getpriority getrlimit getrusage getcpu sysinfo uname
    getrandom exit exit_group recvfrom sendto shutdown getsockname getpeername getsockopt
    setsockopt capget setsid
"""

WITH_PROCESSES = "fork vfork execve wait4 waitid setpgid"
WITH_NETWORK = "connect"

METADATA = """
    chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes utimensat futimesat
"""
"""Landlock does not govern these: without a private root they do nothing and say it is done."""

CHECKED = (
    "clone",
    "clone3",
    "execveat",
    "fcntl",
    "ioctl",
    "kill",
    "prctl",
    "prlimit64",
    "rt_sigqueueinfo",
    "socket",
    "socketpair",
    "tgkill",
    "tkill",
)
"""Calls that are allowed, or denied in another way, by their arguments: see `_checks`."""

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_LOAD, _EQUAL, _ABOVE_OR_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020080  # all CLONE_NEW*, CLONE_NEWTIME among them
_AF_UNIX, _AF_INET, _SOCK_STREAM, _IPPROTO_TCP = 1, 2, 1, 6
_SOCK_FLAGS = (0, 0x800, 0x80000, 0x80800)  # non-blocking, close on exec
_PRCTL_ALLOWED = (3, 7, 15, 16, 21, 27, 39, 0x53564D41)
"""Get: dumpable, keepcaps, seccomp, securebits, no_new_privs; name of a thread or of a mapping."""
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_FCNTL_DENIED = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: they would have the kernel send signals for the caller."""

Instruction = tuple[int, int, int, int]


@functools.cache
def build_filter(profile: str, own_pid: int = 0, machine: str = "", *, network: bool = False) -> bytes:
    """The filter for a profile. network: TCP to connect by.

    own_pid: without a PID namespace, the only process that may be signalled.
    """
    machine = machine or platform.machine()
    numbers = NUMBERS[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_ABOVE_OR_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    names = ALLOWED.split() + (WITH_PROCESSES.split() if profile == "program" else [])
    names += WITH_NETWORK.split() if network else []
    if own_pid:
        names = [name for name in names if name not in METADATA.split()]
        for name in METADATA.split():
            if name in numbers:
                program += [(_EQUAL, 0, 1, numbers[name]), _fail(0)]
    for first, last in _runs(numbers[name] for name in names if name in numbers):
        program += [(_ABOVE_OR_EQUAL, 0, 2, first), (_ABOVE_OR_EQUAL, 1, 0, last + 1), _allow()]
    for name, body in _checks(profile, own_pid, network=network).items():
        if name in numbers:
            program += [(_EQUAL, 0, len(body), numbers[name]), *body]
    program.append(_fail(errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers without a gap: the kernel tries a filter on every number there is."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _checks(profile: str, own_pid: int, *, network: bool) -> dict[str, list[Instruction]]:
    threads_only = profile != "program"
    clone = [_argument(0), (_ANY_BIT, 0, 1, _CLONE_NAMESPACES), _fail(errno.EPERM)]
    if threads_only:
        clone += [(_ANY_BIT, 1, 0, _CLONE_THREAD), _fail(errno.EPERM)]
    signals = _only(0, (own_pid,)) if own_pid else [_allow()]
    return {
        "clone": [*clone, _allow()],
        "clone3": [_fail(errno.ENOSYS)],  # its arguments are out of a filter's sight; libraries fall back to clone
        "execveat": [_fail(errno.ENOSYS)],
        "fcntl": [*_none_of(1, _FCNTL_DENIED), _allow()],
        "ioctl": _only(1, _IOCTL_ALLOWED),
        "kill": signals,
        "tgkill": signals,
        "tkill": signals if not own_pid else [_fail(errno.EPERM)],
        "rt_sigqueueinfo": signals,
        "prctl": _only(0, _PRCTL_ALLOWED),
        "prlimit64": _only(0, (0, own_pid) if own_pid else (0,)),
        "socket": _tcp() if network else [_fail(errno.EACCES)],
        "socketpair": _only(0, (_AF_UNIX,)),
    }


def _argument(index: int) -> Instruction:
    """Load the lower half of an argument: all that are looked at here are ints to the kernel."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _tcp() -> list[Instruction]:
    """Stream sockets of IPv4, of no other protocol than TCP."""
    return [
        _argument(0),
        (_EQUAL, 1, 0, _AF_INET),
        _fail(errno.EACCES),
        _argument(2),
        (_EQUAL, 2, 0, 0),
        (_EQUAL, 1, 0, _IPPROTO_TCP),
        _fail(errno.EACCES),
        *_only(1, tuple(_SOCK_STREAM | flags for flags in _SOCK_FLAGS)),
    ]


def _only(index: int, values: tuple[int, ...]) -> list[Instruction]:
    body = [_argument(index)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), _allow()]
    return [*body, _fail(errno.EPERM)]


def _none_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    body = [_argument(index)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), _fail(errno.EPERM)]
    return body


def _allow() -> Instruction:
    return (_RETURN, 0, 0, _ALLOW)


def _fail(number: int) -> Instruction:
    return (_RETURN, 0, 0, _FAIL | number)
