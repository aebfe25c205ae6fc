"""Connected byte streams that speak the wire, and calls over them."""

from smol.transport.caller import Caller, ProgressCallback
from smol.transport.channel import Channel, Handler
from smol.transport.inbox import Inbox, Occurrence, Reply
from smol.transport.memory import connect_in_memory
from smol.transport.unix import connect, from_socket, listen

__all__ = [
    "Caller",
    "Channel",
    "Handler",
    "Inbox",
    "Occurrence",
    "ProgressCallback",
    "Reply",
    "connect",
    "connect_in_memory",
    "from_socket",
    "listen",
]
