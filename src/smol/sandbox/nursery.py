"""The nursery: a small, warm, single-threaded interpreter from which every sandbox is forked, sealed, and reaped.

It never runs untrusted code itself and holds nothing secret. It is asked over a socket pair of sequenced
packets: `{"spawn": {...}}` with the descriptors of job, stdout, stderr and status, answered by
`{"spawned": id, "pid": n}` or `{"failed": id, "error": text}`, and later `{"gone": id}` when every
process of the sandbox has ended; `{"kill": id}`. When its asker goes away, however it
ends, the nursery kills what it has made, removes its cgroups and working directories, and ends.

Run by `python -I -S`: standard library only.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

from smol.sandbox import agent, kernel, seal
from smol.sandbox.folders import remove_tree
from smol.sandbox.seccomp import build_filter

__all__ = ["main"]

MESSAGE_BYTES = 1 << 16
STATUS = struct.Struct("=iddq")
"""Wait status, user seconds, system seconds, largest resident size in KiB."""
_WARM = (
    "collections dataclasses datetime decimal enum fractions functools heapq io itertools json math operator "
    "random re statistics string textwrap threading typing copy bisect encodings.latin_1 encodings.ascii"
)
"""What most code imports. Each extension module more is mapped, copied and unmapped twice for every sandbox: what
few programs need (hashlib, tempfile, uuid) is faster imported by these."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Nursery:
    """Everything that has been spawned and is not gone yet."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.living: dict[int, dict[str, Any]] = {}
        self.slots: dict[int, int] = {}
        self.asker = os.getppid()
        self.places: set[str] = set()  # where the asker makes cgroups
        self.base = 0x70000000 + os.getpid() % (1 << 20) * 64

    def serve(self) -> None:
        """Until the asker closes its end."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(reader, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if reader in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 4096)
                self.reap()
            if self.control.fileno() in ready and not self.ask():
                return

    def ask(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 4)
        except ConnectionError:
            return False
        if not data:
            return False
        message = json.loads(data)
        try:
            if "spawn" in message:
                self.spawn(message["spawn"], descriptors)
            elif message.get("kill") in self.slots.values():
                os.kill(next(pid for pid, name in self.slots.items() if name == message["kill"]), signal.SIGKILL)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def spawn(self, plan: dict[str, Any], descriptors: list[int]) -> None:
        self.places.update(os.path.dirname(group) for group in plan["cgroups"])
        taken = {entry["slot"] for entry in self.living.values()}
        plan["slot"] = next(slot for slot in range(1 << 16) if slot not in taken)
        plan["uid"] = self.base + plan["slot"]
        if plan["paths"] and "namespaces" in plan["layers"]:
            self.move_library(plan["paths"])
        try:
            pid = seal.enter(plan["layers"])
        except OSError as error:
            self.say({"failed": plan["id"], "error": str(error)})
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self.control.close()
            _be_init(plan, descriptors)
        self.living[pid] = plan
        self.slots[pid] = plan["id"]
        self.say({"spawned": plan["id"], "pid": pid})

    def move_library(self, paths: list[str]) -> None:
        """Import from where sandboxes see the standard library and the packages; paths[0]: the library.

        Here, once, and not in each of them, which would have to copy every page that holds a module. The nursery
        itself has imported by now whatever it needs.
        """
        if sys.path == paths:
            return
        library = os.path.dirname(os.__file__)
        for module in tuple(sys.modules.values()):
            if isinstance(getattr(module, "__path__", None), list):
                module.__path__ = [path.replace(library, paths[0]) for path in module.__path__]
            if isinstance(file := getattr(module, "__file__", None), str):
                module.__file__ = file.replace(library, paths[0])
        sys.path[:] = paths
        sys.path_importer_cache.clear()
        for name in ("prefix", "base_prefix", "exec_prefix", "base_exec_prefix"):
            setattr(sys, name, "/usr")
        sys.executable = ""
        gc.freeze()

    def reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.slots.pop(pid, None)
            if plan := self.living.pop(pid, None):
                self.say({"gone": plan["id"]})

    def say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(message).encode())

    def clean_up(self) -> None:
        """Leave nothing: called when nobody is there any more to do it."""
        plans = list(self.living.values())
        for pid in self.living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in list(self.living):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for plan in plans:
            if plan.get("folder"):
                with contextlib.suppress(OSError):
                    remove_tree(plan["folder"])
        for place in self.places:
            for name in os.listdir(place):
                if name.startswith(f"box-{self.asker}-"):  # those too that were made and not spoken of yet
                    _remove_group(f"{place}/{name}")


def _remove_group(group: str) -> None:
    """Remove a cgroup; processes that were killed may keep it for a moment."""
    for _ in range(2000):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.005)
        else:
            return


def _be_init(plan: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the first process of a sandbox: seal it, fork the agent, wait for it, take all others along."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job, out, err, report = descriptors
        for group in plan["cgroups"]:
            _write(f"{group}/cgroup.procs", "0")
        os.setsid()
        root = os.geteuid() == 0
        owner = plan["uid"] if root and "uid" in plan["layers"] else os.geteuid()
        folder = plan.get("folder") or seal.HOME
        gate = seal.listen_inside() if plan["network"] else -1
        if "namespaces" in plan["layers"]:
            seal.build_root(plan["binds"], owner, plan["disk_bytes"], plan["files"])
        elif root:
            for place in (folder, f"{folder}/.tmp"):
                os.chown(place, owner, owner)
        seal.drop(owner, change_user=owner != os.geteuid())
        agent_pid = os.fork()
        if agent_pid == 0:
            _be_agent(plan, [job, out, err], folder, gate)
        kernel.close_above(0, [report])
        _, wait_status, usage = os.wait4(agent_pid, 0)
        if "namespaces" in plan["layers"]:
            _end_others()
        os.write(report, STATUS.pack(wait_status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss))
        while True:  # Until killed: to take namespaces apart takes a while, and the caller waits for an answer.
            signal.pause()
    except BaseException as error:
        _complain(descriptors[0], error)
    finally:
        os._exit(120)


def _end_others() -> None:
    """Kill and reap all that the code left behind, so that the report means: nothing runs any more."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _be_agent(plan: dict[str, Any], descriptors: list[int], folder: str, gate: int) -> NoReturn:
    """Be the process that runs the code. gate: the socket for the proxy, or -1."""
    job, out, err = descriptors
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        for name in _IGNORED:
            signal.signal(name, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.chdir(folder)
        private = "namespaces" in plan["layers"]
        temporary = "/tmp" if private else f"{folder}/.tmp"  # noqa: S108
        os.environ.update(HOME=folder, TMPDIR=temporary, XDG_CACHE_HOME=temporary)
        if plan["network"]:
            os.environ.update(seal.network_environment())
        handed = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY), *([gate] if gate >= 0 else [])]
        with socket.socket(fileno=os.dup(job)) as channel:
            channel.sendmsg([b"W"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed))])
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        # Out of the way first: a descriptor that is to be moved may lie where another one goes.
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16) for descriptor in (out, err, job)]
        for target, descriptor in zip((1, 2, 3), moved, strict=True):
            os.dup2(descriptor, target)
        kernel.close_above(4, [])
        agent.open_streams()
        store = [folder, temporary, "/dev/null", *(["/dev/shm"] if private else [])]  # noqa: S108
        readable = ["/"] if private else plan["readable"]
        seal.restrict(plan, readable, store)
        sys.argv = ["<code>"]
        agent.live(3, plan)
    except BaseException as error:
        _complain(3, error)
    finally:
        os._exit(121)


def _complain(descriptor: int, error: BaseException) -> None:
    """Say why there is no sandbox, in place of `W` and `R`."""
    with contextlib.suppress(OSError):
        os.write(descriptor, b"!" + f"{type(error).__name__}: {error}".encode()[:2000])


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def main(control_fd: int) -> int:
    """Entry: the descriptor of the control socket."""
    os.setsid()  # What ends the asker's process group must leave someone to clean up.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    for number in range(1, signal.NSIG):  # whatever whoever started Smol had ignored
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    for name in (signal.SIGPIPE, *_IGNORED):
        signal.signal(name, signal.SIG_IGN)
    for module in _WARM.split():
        with contextlib.suppress(ImportError):
            __import__(module)
    for profile in ("embedded", "program"):
        for network in (False, True):
            build_filter(profile, network=network)
    gc.collect()
    gc.freeze()
    nursery = Nursery(socket.socket(fileno=control_fd))
    try:
        nursery.say(
            {"ready": os.getpid(), "library": os.path.dirname(os.__file__), "version": sys.version_info[:2]}
        )
        nursery.serve()
    finally:
        nursery.clean_up()
    return 0
