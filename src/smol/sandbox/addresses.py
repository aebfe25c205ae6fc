"""From the name of a host that may be reached to addresses that may be connected to.

Covers resolving and checking. Whoever connects must take the addresses that come from here, never the name
again: so a name that changes its mind gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from smol.sandbox.reach import Reach

__all__ = ["Resolve", "admitted_addresses", "look_up"]

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError."""

_TRIES = 4

# Names are resolved by threads of their own: a slow name server must not hold up other work of this process.
_resolvers = ThreadPoolExecutor(4, thread_name_prefix="resolver")


async def look_up(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def admitted_addresses(reach: Reach, host: str, port: int, resolve: Resolve = look_up) -> list[str]:
    """The first few addresses of a host that may be connected to; none when it has only others. Raises OSError."""
    try:
        addresses = await resolve(host, port)
    except UnicodeError as error:
        raise OSError(str(error)) from None
    return [address for address in addresses if _admits(reach, address, port)][:_TRIES]


def _admits(reach: Reach, address: str, port: int) -> bool:
    return reach.admits(address, port) and ((address, port) in reach.private or not _is_own(address))


def _is_own(address: str) -> bool:
    """Whether a public address is this machine's own: it would be reached from where it is. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False  # There is no way to it at all: connecting will fail.
        return bool(probe.getsockname()[0] == address)
