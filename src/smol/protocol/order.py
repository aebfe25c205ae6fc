"""Legal order, as data: which message may follow which.

`CONNECTION` is for the connection, `CALL` for a call as its caller sees it; `session` walks them.

The side that accepts is the host, the side that connects the peer (a client or a worker); both may
call. Call ids belong to their caller, so each direction has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from smol.protocol.messages import (
    Call,
    Cancel,
    Credit,
    Drain,
    End,
    Error,
    Event,
    Hello,
    Item,
    Message,
    Ping,
    Pong,
    Progress,
    Publish,
    Result,
    Subscribe,
    Unsubscribe,
    Welcome,
)

__all__ = ["CALL", "CONNECTION", "LEGAL", "WITH_BODY", "CallState", "Role", "State"]


class Role(StrEnum):
    HOST = "host"
    PEER = "peer"


class State(StrEnum):
    """Where the connection stands."""

    NEW = "new"
    GREETING = "greeting"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class CallState(StrEnum):
    """Where a call stands, as its caller sees it. A call that is done is forgotten."""

    OPEN = "open"
    STREAMING = "streaming"
    SUBSCRIBED = "subscribed"
    CANCELLED = "cancelled"
    UNSUBSCRIBED = "unsubscribed"
    DONE = "done"


_TRAFFIC: Sequence[type[Message]] = (
    Call, Result, Error, Item, End, Progress, Credit, Cancel, Publish, Subscribe, Unsubscribe, Event, Ping, Pong,
)  # fmt: skip

CONNECTION: dict[State, dict[type[Message], State]] = {
    State.NEW: {Hello: State.GREETING, Error: State.CLOSED},
    State.GREETING: {Welcome: State.OPEN, Error: State.CLOSED},
    State.OPEN: dict.fromkeys(_TRAFFIC, State.OPEN) | {Drain: State.DRAINING},
    State.DRAINING: dict.fromkeys(_TRAFFIC, State.DRAINING) | {Drain: State.DRAINING},
    State.CLOSED: {},
}
"""`hello` goes from peer to host, `welcome` back; the rest goes both ways. A peer that can't start says
`error` in place of `hello`."""

CALL: dict[CallState, dict[type[Message], CallState]] = {
    CallState.OPEN: {
        Result: CallState.DONE,
        Error: CallState.DONE,
        Item: CallState.STREAMING,
        End: CallState.DONE,
        Progress: CallState.OPEN,
    },
    CallState.STREAMING: {
        Item: CallState.STREAMING,
        Progress: CallState.STREAMING,
        End: CallState.DONE,
        Error: CallState.DONE,
    },
    CallState.SUBSCRIBED: {
        Result: CallState.SUBSCRIBED,
        Event: CallState.SUBSCRIBED,
        Error: CallState.DONE,
        End: CallState.DONE,
    },
    CallState.CANCELLED: {
        Result: CallState.DONE,
        Error: CallState.DONE,
        End: CallState.DONE,
        Item: CallState.CANCELLED,
        Progress: CallState.CANCELLED,
    },
    CallState.UNSUBSCRIBED: {
        Result: CallState.UNSUBSCRIBED,
        Event: CallState.UNSUBSCRIBED,
        Error: CallState.DONE,
        End: CallState.DONE,
    },
}
"""After `cancel` and `unsubscribe` what was under way still arrives, and is not passed on."""

WITH_BODY = frozenset((Call, Result, Item))
_ONLY_FROM = {Hello: Role.PEER, Subscribe: Role.PEER, Unsubscribe: Role.PEER, Welcome: Role.HOST, Event: Role.HOST}
LEGAL: Mapping[Role, Mapping[State, Mapping[Any, State]]] = {
    sender: {
        state: {kind: target for kind, target in row.items() if _ONLY_FROM.get(kind, sender) is sender}
        for state, row in CONNECTION.items()
    }
    for sender in Role
}
"""`CONNECTION` as each side may send."""
