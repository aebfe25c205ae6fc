"""The network of a run, where the settings allow one: its proxy, and what is told of whom it reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smol.errors import FailedPrecondition
from smol.sandbox.box import Box
from smol.sandbox.proxy import Contact, Proxy
from smol.sandbox.reach import Reach
from smol.sandbox.records import Isolation
from smol.sdk import Context

__all__ = ["check_network", "proxied"]


def check_network(reach: Reach, isolation: Isolation) -> None:
    """Raises FailedPrecondition where code can have no network."""
    if not reach.hosts:
        raise FailedPrecondition(
            "code has no network here: fetch what it needs beforehand and pass it as files, or name the hosts "
            "it may reach as hosts in [units.code.network]"
        )
    if "namespaces" not in isolation.layers:
        raise FailedPrecondition(
            f"code gets a network only in a namespace of its own: {isolation.missing.get('namespaces', '')}"
        )


@asynccontextmanager
async def proxied(context: Context, box: Box, reach: Reach) -> AsyncIterator[list[Contact]]:
    """The contacts of a sandbox's run, as they are made; none where it has no network."""
    if not box.kind.network:
        yield []
        return
    async with Proxy(reach, box.listener()) as proxy:
        yield proxy.contacts
    for contact in proxy.contacts:
        context.log.info(
            "sandboxed code: %s:%d %s", contact.host, contact.port, contact.refused or f"at {contact.address}"
        )
