from __future__ import annotations

import errno
import struct

import pytest

from smol.sandbox.numbers import NUMBERS
from smol.sandbox.seccomp import build_filter

ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x50000


def decide(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: an interpreter of the few instructions that are used."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = place = 0
    while True:
        operation, yes, no, value = code[place]
        place += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            place += yes if holds[operation] else no


@pytest.mark.parametrize("machine", ARCHES)
def test_what_programs_need_is_allowed(machine: str) -> None:
    for profile in ("embedded", "program"):
        program = build_filter(profile, 0, machine)
        for name in ("read", "mmap", "futex", "exit_group", "getrandom", "openat"):
            assert decide(program, NUMBERS[machine][name], ARCHES[machine]) == ALLOW, name


@pytest.mark.parametrize("machine", ARCHES)
def test_only_programs_may_execute(machine: str) -> None:
    number = NUMBERS[machine]["execve"]
    assert decide(build_filter("embedded", 0, machine), number, ARCHES[machine]) == FAIL | errno.EPERM
    assert decide(build_filter("program", 0, machine), number, ARCHES[machine]) == ALLOW


@pytest.mark.parametrize("machine", ARCHES)
def test_embedded_code_starts_threads_and_no_processes_or_namespaces(machine: str) -> None:
    program, number, arch = build_filter("embedded", 0, machine), NUMBERS[machine]["clone"], ARCHES[machine]
    thread = 0x3D0F00
    assert decide(program, number, arch, (thread,)) == ALLOW
    assert decide(program, number, arch, (17,)) == FAIL | errno.EPERM
    for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert decide(program, number, arch, (thread | namespace,)) == FAIL | errno.EPERM
        assert decide(build_filter("program", 0, machine), number, arch, (17 | namespace,)) == FAIL | errno.EPERM


def test_calls_of_another_architecture_kill() -> None:
    program = build_filter("embedded", 0, "x86_64")
    assert decide(program, 1, ARCHES["aarch64"]) == KILL
    assert decide(program, 0x40000000 | 39, ARCHES["x86_64"]) == KILL


@pytest.mark.parametrize(
    "number", [165, 101, 272, 308, 321, 323, 425, 248, 250, 298, 310, 155, 161, 175, 246, 169]
)
def test_what_reaches_beyond_a_process_fails(number: int) -> None:
    """mount, ptrace, unshare, setns, bpf, userfaultfd, io_uring, keys, perf, process_vm, roots, modules."""
    for profile in ("embedded", "program"):
        assert decide(build_filter(profile, 0, "x86_64"), number, ARCHES["x86_64"]) == FAIL | errno.EPERM


def test_without_a_namespace_a_process_signals_only_itself() -> None:
    program, kill = build_filter("embedded", 77, "x86_64"), NUMBERS["x86_64"]["kill"]
    assert decide(program, kill, ARCHES["x86_64"], (77, 9)) == ALLOW
    assert decide(program, kill, ARCHES["x86_64"], (78, 9)) == FAIL | errno.EPERM
    assert decide(program, kill, ARCHES["x86_64"], (0xFFFFFFFF, 9)) == FAIL | errno.EPERM


def test_sockets_lead_nowhere() -> None:
    program, numbers = build_filter("program", 0, "x86_64"), NUMBERS["x86_64"]
    for family in range(50):
        assert decide(program, numbers["socket"], ARCHES["x86_64"], (family,)) == FAIL | errno.EACCES
    assert decide(program, numbers["socketpair"], ARCHES["x86_64"], (1,)) == ALLOW
    assert decide(program, numbers["socketpair"], ARCHES["x86_64"], (2,)) == FAIL | errno.EPERM


def test_without_a_private_root_metadata_stays_as_it_is() -> None:
    """Landlock does not govern chmod: it is answered without being done."""
    for name in ("chmod", "fchmodat", "fchown", "utimensat"):
        number = NUMBERS["x86_64"][name]
        assert decide(build_filter("embedded", 77, "x86_64"), number, ARCHES["x86_64"]) == FAIL
        assert decide(build_filter("embedded", 0, "x86_64"), number, ARCHES["x86_64"]) == ALLOW


@pytest.mark.parametrize("machine", ARCHES)
def test_with_a_network_there_is_tcp_over_ipv4_to_connect_by_and_nothing_else(machine: str) -> None:
    without, arch = build_filter("embedded", 0, machine), ARCHES[machine]
    within = build_filter("embedded", 0, machine, network=True)
    numbers = NUMBERS[machine]
    assert decide(within, numbers["connect"], arch) == ALLOW
    assert decide(without, numbers["connect"], arch) == FAIL | errno.EPERM
    for arguments in ((2, 1, 0), (2, 1, 6), (2, 0x80801, 0), (2, 0x801, 6), (2, 0x80001, 0)):
        assert decide(within, numbers["socket"], arch, arguments) == ALLOW
        assert decide(without, numbers["socket"], arch, arguments) == FAIL | errno.EACCES
    for arguments in (
        (2, 2, 0),
        (2, 3, 1),
        (2, 1, 262),
        (2, 1, 132),
        (10, 1, 0),
        (1, 1, 0),
        (16, 3, 0),
        (40, 1, 0),
    ):
        assert decide(within, numbers["socket"], arch, arguments) != ALLOW
