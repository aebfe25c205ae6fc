"""Where Smol keeps its files and its socket: one answer for hosts, clients and stores.

Covers the choice of paths and the checks that make a shared place such as /tmp safe. Does not
create anything but `own_directory`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import platformdirs

from smol.errors import FailedPrecondition, InvalidArgument, PermissionDenied

__all__ = ["LONGEST_SOCKET_BYTES", "Locations", "check_socket_path", "locate", "own_directory"]

LONGEST_SOCKET_BYTES = 107
"""Of a Unix socket's path: `sun_path` is 108 bytes with its closing NUL (unix(7))."""


class Locations(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute paths; none of them need exist.

    data: worth keeping: models, environments of units, values stored by units.
    state: what a host notes about itself, such as learned peaks of memory.
    cache: may be deleted at any time.
    runtime: sockets; gone after a restart of the machine.
    """

    data: Path
    state: Path
    cache: Path
    runtime: Path
    socket: Path


def locate(environ: Mapping[str, str] | None = None, *, user_id: int | None = None) -> Locations:
    """The default places of this user.

    `SMOL_HOME` puts all of them into one directory and `SMOL_SOCKET` names the socket. Without
    them the platform's customs hold (XDG on Linux, read from the process's own environment).
    The path of the socket is checked. Raises `InvalidArgument`.
    """
    environ = os.environ if environ is None else environ
    if home := environ.get("SMOL_HOME"):
        root = Path(home).expanduser().absolute()
        data, state, cache, runtime = root / "data", root / "state", root / "cache", root / "run"
    else:
        data = platformdirs.user_data_path("smol", appauthor=False)
        state = platformdirs.user_state_path("smol", appauthor=False)
        cache = platformdirs.user_cache_path("smol", appauthor=False)
        runtime = _runtime(environ, os.geteuid() if user_id is None else user_id)
    named = environ.get("SMOL_SOCKET")
    socket = Path(named).expanduser().absolute() if named else runtime / "smol.sock"
    return Locations(data=data, state=state, cache=cache, runtime=runtime, socket=check_socket_path(socket))


def check_socket_path(path: Path) -> Path:
    """The path, if a Unix socket can have it. Raises `InvalidArgument`."""
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_BYTES:
        raise InvalidArgument(
            f"the socket path {path} has {length} bytes and the system allows {LONGEST_SOCKET_BYTES}; "
            "give a shorter one with SMOL_SOCKET or `socket` in smol.toml"
        )
    return path


def own_directory(path: Path) -> Path:
    """Make the directory (mode 0700) if it is not there, and prove that it is this user's alone.

    Raises `PermissionDenied` if another user owns it or may write to it, or it is a symbolic link:
    in a place that all may write to, someone else could have been first.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except FileExistsError:
        raise FailedPrecondition(f"{path} is there and is not a directory; remove it") from None
    except OSError as error:
        raise FailedPrecondition(f"the directory {path} cannot be made: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        raise PermissionDenied(f"{path} is a symbolic link; remove it, or choose another place")
    if found.st_uid != os.geteuid():
        raise PermissionDenied(f"{path} belongs to user {found.st_uid}; choose another place")
    if found.st_mode & 0o022:
        raise PermissionDenied(f"{path} may be written by other users; run: chmod 700 {path}")
    return path


def _runtime(environ: Mapping[str, str], user_id: int) -> Path:
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session).absolute() / "smol"
    if user_id == 0:
        return Path("/run/smol")
    return Path(tempfile.gettempdir()) / f"smol-{user_id}"
