"""Which hosts may be reached for somebody else, as data: names, ports, amounts; and addresses that never are.

Covers the decision. Resolving is `addresses`'; connecting and counting are `proxy`'s, for sandboxed code.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from smol.errors import InvalidArgument
from smol.sizes import MIB, Size
from smol.tables import INTERNAL

__all__ = ["Reach", "is_public", "plain_host", "read_authority"]

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^:\[\]/?#@]{1,253})(?::([0-9]{1,5}))?")
_PLATFORM = (ipaddress.ip_address("168.63.129.16"),)
"""Public by number, but served by the platform under a virtual machine: Azure's agent."""
_GLOBAL_6 = ipaddress.ip_network("2000::/3")


class Reach(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be reached. No hosts: there is no network.

    hosts: names; `*.example.org` for every name below one, `*` for every public host. ports: of those hosts.
    most_bytes: in both directions together; connections: of one run. connect_seconds: to resolve and connect.
    private: addresses and ports that are reached although they are not public. Settings can't name them:
    whoever makes this object decides.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = (80, 443)
    most_bytes: Size = 64 * MIB
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 64
    connect_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    private: Annotated[tuple[tuple[str, int], ...], INTERNAL] = ()

    def check(self, table: str) -> None:
        """Raises InvalidArgument for a host that is no name. table: of smol.toml, which names it."""
        for host in self.hosts:
            if host != "*" and plain_host(host.removeprefix("*.")) is None:
                raise InvalidArgument(
                    f"[{table}] hosts: {host!r} is no host; write 'example.org', '*.example.org' or '*'"
                )

    def objection(self, host: str, port: int) -> str:
        """Why a host may not be asked for, before anything is resolved; empty when it may. host: plain."""
        if port not in self.ports:
            return f"port {port} is not allowed; allowed: {', '.join(map(str, self.ports))}"
        for pattern in self.hosts:
            if pattern == "*" or plain_host(pattern) == host:
                return ""
            if pattern.startswith("*.") and host.endswith(f".{plain_host(pattern[2:])}"):
                return ""
        return f"host {host} is not in the list of allowed hosts"

    def admits(self, address: str, port: int) -> bool:
        """Whether this very address may be connected to."""
        return (address, port) in self.private or is_public(address)


def plain_host(text: str) -> str | None:
    """A name or an address as it is compared: lower case, no final dot, no brackets; None if it is neither."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            return None
    name = text.lower()
    return name.rstrip(".") if len(name) <= 253 and _NAME.fullmatch(name) else None


def read_authority(text: str) -> tuple[str, int | None] | None:
    """The host, plain, and the port if there is one, of `example.org:80`; None where there is more, or none."""
    found = _AUTHORITY.fullmatch(text)
    host = plain_host(found[1]) if found else None
    return None if found is None or host is None else (host, int(found[2]) if found[2] else None)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet's: no loopback, link-local, private or special one.

    Of IPv6 only global unicast counts, and nothing that carries an IPv4 address to be unpacked on the way.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not found.is_global or found.is_multicast or found.is_reserved or found in _PLATFORM:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        return found in _GLOBAL_6 and found.sixtofour is None and found.teredo is None
    return True
