"""The host around a sandbox, with bait laid out and everything watched that a run must not change."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

__all__ = ["WatchedHost"]

_COUNTED = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")


class WatchedHost:
    """A canary file, a process to harm, listeners to reach, and what all of that looks like untouched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = "token" + secrets.token_hex(12)
        self._secret = "secret" + secrets.token_hex(12)
        self._canary = folder / "canary"
        self._shm = Path("/dev/shm") / f"smol-bait-{secrets.token_hex(4)}"
        self._key = secrets.token_hex(3)

    def __enter__(self) -> WatchedHost:
        for parent in (self.folder, *self.folder.parents):
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)  # so that nothing but the sandbox guards the bait
        self._canary.write_text(self._secret)
        self._canary.chmod(0o666)
        self._shm.write_text(self._secret)
        self.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"], stdin=subprocess.DEVNULL
        )
        self._listeners = [self._listen(socket.AF_INET, ("127.0.0.1", 0))]
        self._port = self._listeners[0].getsockname()[1]
        self._listeners.append(self._listen(socket.AF_UNIX, str(self.folder / "socket")))
        (self.folder / "socket").chmod(0o777)
        self._listeners.append(self._listen(socket.AF_UNIX, f"\0{self.token}"))
        self._listing = self._list()
        self._inter_process = self._read_inter_process()
        return self

    def __exit__(self, *error: object) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in self._listeners:
            listener.close()
        self._shm.unlink(missing_ok=True)

    @staticmethod
    def _listen(family: int, address: tuple[str, int] | str) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        return listener

    @property
    def facts(self) -> dict[str, str]:
        return {
            "canary": str(self._canary),
            "folder": str(self.folder),
            "port": str(self._port),
            "victim": str(self.victim.pid),
            "shm": self._shm.name,
            "token": self.token,
            "key": self._key,
        }

    def _list(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def _read_inter_process(self) -> list[int]:
        return [Path(path).read_text().count("\n") for path in _COUNTED if os.path.exists(path)]

    def harm(self, output: bytes, said: bytes) -> list[str]:
        """What a run did to the host or learnt of it: from its standard output and all that came out of it."""
        found = []
        if b"ESCAPED" in output:
            found.append("it says so itself")
        if self._secret.encode() in said:
            found.append("it read the canary")
        try:
            if self._canary.read_text() != self._secret or self._canary.stat().st_mode & 0o7777 != 0o666:
                found.append("it changed the canary")
        except OSError:
            found.append("it took the canary away")
        if self._list() != self._listing:
            found.append(f"it left {sorted(set(self._list()) ^ set(self._listing))}")
        for place in ("/tmp", "/dev/shm"):
            if (Path(place) / self.token).exists():
                found.append(f"it left a file in {place}")
                (Path(place) / self.token).unlink()
        if self.victim.poll() is not None or _stopped(self.victim.pid):
            found.append("it harmed another process")
        if self._read_inter_process() > self._inter_process:
            found.append("it left inter-process objects")
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                found.append("it reached a socket of the host")
        if socket.gethostname() == self.token:
            found.append("it renamed the host")
        return found


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZt"
