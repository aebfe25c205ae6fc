"""The seals of one sandbox, put on by the process that will live in it, from the outside in.

`enter` clones it into namespaces of its own, `build_root` gives it a file system of its own, `drop` takes its
privileges, and `restrict` comes last: Landlock, resource limits, seccomp. Standard library only: see `kernel`.

As root no user namespace is needed: the file system is built with root's own rights, which are then given up
for a uid that nothing else has. Another user gets those rights from a user namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import struct
from typing import Any

from smol.sandbox import kernel
from smol.sandbox.seccomp import build_filter

__all__ = [
    "CERTIFICATES",
    "DEVICES",
    "HOME",
    "STORES",
    "build_root",
    "drop",
    "enter",
    "library_folders",
    "listen_inside",
    "network_environment",
    "restrict",
]

HOME = "/work"
STORES = (HOME, "/tmp", "/dev/shm")  # noqa: S108
DEVICES = ("null", "zero", "full", "random", "urandom")
PROXY_PORT = 3128
CERTIFICATES = (
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
)
"""Where systems keep the certificates they trust; shown to code that has the network."""
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-bundle.crt",
)
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_STAGE = "/tmp"  # noqa: S108  (only a place to mount on, in a namespace nobody else sees)
_READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_STORE = kernel.MS_NOSUID | kernel.MS_NODEV
_SPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


def enter(layers: list[str]) -> int:
    """Fork into the namespaces. Returns as os.fork does."""
    if "namespaces" not in layers:
        return os.fork()
    if os.geteuid() == 0:
        return kernel.clone(_SPACES)
    user, group = os.geteuid(), os.getegid()
    pid = kernel.clone(_SPACES | kernel.CLONE_NEWUSER)
    if pid == 0:
        # Who is not dumpable may not write its own maps. Nothing untrusted runs here before `drop` takes it back.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return pid


def library_folders() -> list[str]:
    """Where shared libraries lie; the loader's own place first."""
    machine = os.uname().machine
    names = [f"/usr/lib/{machine}-linux-gnu", f"/lib/{machine}-linux-gnu", "/lib64", "/usr/lib64", "/lib"]
    found = []
    for name in names:
        # Where /lib is a link to /usr/lib, what is below it is listed already.
        if os.path.isdir(name) and not (name == "/lib" and os.path.isdir(names[0])):
            found.append(name)
    return found


def build_root(binds: list[list[str]], owner: int, disk_bytes: int, files: int) -> None:
    """Replace the file system by: `binds` (source, place) to read, one small store to write, five devices."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("root", _STAGE, "tmpfs", _STORE, "size=256k,nr_inodes=512,mode=755")
    os.mkdir(f"{_STAGE}/.host")
    kernel.pivot_root(_STAGE, f"{_STAGE}/.host")
    os.chdir("/")
    for source, place in binds:
        _bind("/.host" + os.path.realpath(source), place)
    os.makedirs("/dev", exist_ok=True)
    for name in DEVICES:
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        kernel.mount(f"/.host/dev/{name}", f"/dev/{name}", "", kernel.MS_BIND)
    # Mounted over a place of the host's, in this namespace alone, so that it is unmounted in one go with the rest.
    store = "/.host/dev"
    kernel.mount("store", store, "tmpfs", _STORE, f"size={disk_bytes},nr_inodes={files},mode=755")
    for place in STORES:  # three places, one quota
        inner = f"{store}/{os.path.basename(place)}"
        os.mkdir(inner, 0o700)
        if owner != os.geteuid():
            os.chown(inner, owner, owner)
        os.makedirs(place, exist_ok=True)
        kernel.mount(inner, place, "", kernel.MS_BIND)
    kernel.unmount("/.host")
    os.rmdir("/.host")
    kernel.mount("none", "/", "", kernel.MS_REMOUNT | kernel.MS_BIND | _READ_ONLY)
    socket.sethostname("sandbox")


def listen_inside() -> int:
    """Raise the loopback of the network namespace and listen on it, for a proxy outside; the descriptor.

    Before `build_root`, which hides /proc, and `drop`, which takes the right to.
    """
    for name in ("rmem", "wmem"):  # what the kernel holds for sockets counts to nobody's memory everywhere
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv4/tcp_{name}", "w") as file:
            file.write("4096 65536 262144")
    listener = socket.socket()
    request = struct.pack("16sH14x", b"lo", 0)
    flags = struct.unpack_from("16sH", fcntl.ioctl(listener, _GET_FLAGS, request))[1]
    fcntl.ioctl(listener, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    listener.bind(("127.0.0.1", PROXY_PORT))
    listener.listen(8)
    return listener.detach()


def network_environment() -> dict[str, str]:
    """What tells programs about the proxy and the certificates."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    found = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
    bundle = next((path for path in _BUNDLES if os.path.exists(path)), "")
    return {**found, "SSL_CERT_FILE": bundle} if bundle else found


def _bind(source: str, place: str) -> None:
    """Show a file or directory of the host, to read. One that is not there is left out."""
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    elif os.path.exists(source):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
    else:
        return
    kernel.mount(source, place, "", kernel.MS_BIND)
    flags = os.statvfs(place).f_flag & (kernel.MS_NOEXEC | 1024 | 2048 | 4096)  # what a user may not take off
    inherited = (flags & kernel.MS_NOEXEC) | (1024 if flags & 1024 else 0) | (2048 if flags & 2048 else 0)
    relative = 1 << 21 if flags & 4096 else 0
    kernel.mount("none", place, "", kernel.MS_REMOUNT | kernel.MS_BIND | _READ_ONLY | inherited | relative)


def drop(owner: int, *, change_user: bool) -> None:
    """Give up privileges for good, and die with the parent."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    with contextlib.suppress(PermissionError):  # as a user without a namespace there is nothing to drop
        kernel.drop_bounding_set()
    if change_user:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
    kernel.capset_none()
    # Only now: a change of user resets both.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def restrict(plan: dict[str, Any], readable: list[str], writable: list[str]) -> None:
    """The last seals, of the process that will run the code."""
    layers = plan["layers"]
    if "landlock" in layers:
        kernel.landlock_restrict(readable, writable, (PROXY_PORT,) if plan["network"] else ())
    if "rlimits" in layers:
        limit_resources(plan["limits"])
    if "seccomp" in layers:
        own_pid = 0 if "namespaces" in layers else os.getpid()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.install_filter(build_filter(plan["profile"], own_pid, network=plan["network"]))


def limit_resources(limits: dict[str, int]) -> None:
    """Set resource limits by name, soft and hard alike, never above what is inherited."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
