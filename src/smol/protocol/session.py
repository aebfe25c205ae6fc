"""One side of a connection: which message is legal when.

Two tables say it all: `CONNECTION` for the connection, `CALL` for a call as its caller sees it. A
session is fed frames and asked for buffers; it holds the state and no payload, and never retries.

The side that accepts is the host, the side that connects the peer (a client or a worker); both may
call. Call ids belong to their caller, so each direction has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from smol.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, SmolError, Unimplemented
from smol.protocol.frames import Buffer, Frame, Limits, encode_frame
from smol.protocol.messages import (
    PROTOCOL_VERSION,
    AttachmentHeader,
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
    UnknownMessage,
    Unsubscribe,
    Welcome,
    decode_message,
    encode_message,
    error_message,
)

__all__ = ["CALL", "CONNECTION", "CallState", "Role", "Session", "State"]


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
        Event: CallState.CANCELLED,
    },
}

_ANSWERS = (Result, Error, Item, End, Progress, Event)
_WITH_BODY = (Call, Result, Item)
_FROM_PEER = (Hello, Subscribe, Unsubscribe)
_FROM_HOST = (Welcome, Event)

_SUBSCRIPTION = -1
"""Stands in `serving` for a subscription, where a call has its credit."""


class Session:
    """The state of one side. `calls` are ours, `serving` are the other side's with us."""

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        self.role = role
        self.limits = limits or Limits()
        self.send_limits = self.limits
        self.state = State.NEW
        self.calls: dict[int, CallState] = {}
        self.serving: dict[int, int] = {}
        self._granted: dict[int, int] = {}
        self._last_id = 0

    def next_id(self) -> int:
        """A fresh id for a call of ours."""
        self._last_id += 1
        return self._last_id

    # Sending ------------------------------------------------------------------------------------

    def send(self, message: Message, body: Sequence[Buffer] = (), body_bytes: int = 0) -> list[Buffer]:
        """The buffers of a frame. Raises FailedPrecondition when `message` is not legal now,
        ResourceExhausted when it is larger than the other side accepts; then nothing has changed.
        """
        target = self._target(message, sent=True)
        header = encode_message(message)
        if len(header) > self.send_limits.header_bytes:
            raise ResourceExhausted(
                f"{len(header)} bytes of JSON: the limit is {self.send_limits.header_bytes}; "
                "send large values as attachments",
                limit_bytes=self.send_limits.header_bytes,
            )
        if body_bytes > self.send_limits.body_bytes:
            raise ResourceExhausted(
                f"{body_bytes} bytes of attachments: the limit is {self.send_limits.body_bytes} a message",
                limit_bytes=self.send_limits.body_bytes,
            )
        self._track_sent(message)
        self.state = target
        return encode_frame(header, body, body_bytes)

    def _track_sent(self, message: Message) -> None:
        kind = type(message)
        if kind is Call:
            assert isinstance(message, Call)
            self._begin(message.id, CallState.OPEN)
            if message.credit:
                self._granted[message.id] = message.credit
        elif kind is Result or kind is Error or kind is End:
            assert isinstance(message, Result | Error | End)
            if message.id:
                self._end_serving(message)
        elif kind is Item:
            assert isinstance(message, Item)
            if self.serving.get(message.id, 0) < 1:
                raise FailedPrecondition(f"no credit left for an item of call {message.id}")
            self.serving[message.id] -= 1
        elif kind is Progress or kind is Event:
            assert isinstance(message, Progress | Event)
            if message.id not in self.serving:
                raise FailedPrecondition(f"call {message.id} is not open")
        elif kind is Credit:
            assert isinstance(message, Credit)
            self._granted[message.id] = self._granted.get(message.id, 0) + message.items
        elif kind is Subscribe:
            assert isinstance(message, Subscribe)
            self._begin(message.id, CallState.SUBSCRIBED)
        elif kind is Cancel or kind is Unsubscribe:
            assert isinstance(message, Cancel | Unsubscribe)
            if message.id in self.calls:
                self.calls[message.id] = CallState.CANCELLED

    def _begin(self, call_id: int, state: CallState) -> None:
        if call_id < 1 or call_id in self.calls:
            raise FailedPrecondition(f"call id {call_id} is not free")
        self.calls[call_id] = state

    def _end_serving(self, message: Result | Error | End) -> None:
        if message.id not in self.serving:
            raise FailedPrecondition(f"call {message.id} is not open")
        # The answer to `subscribe` leaves the subscription open.
        if not (isinstance(message, Result) and self.serving[message.id] == _SUBSCRIPTION):
            del self.serving[message.id]

    # Receiving ----------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> Message | UnknownMessage | None:
        """The message in `frame` if it is to be acted on; None when it needs no attention.

        Raises SmolError when the other side broke the rules: then `refuse` says what to send, and
        nothing has changed. An attachment list that does not match the body breaks them too.
        """
        message = decode_message(frame.header)
        if isinstance(message, UnknownMessage):
            return message
        target = self._target(message, sent=False)
        kind = type(message)
        if kind in _WITH_BODY:
            assert isinstance(message, Call | Result | Item)
            _check_body(message.attachments, frame)
        elif len(frame.body) or frame.discarded_bytes:
            raise InvalidArgument(f"a {_name(kind)} message with a body of {len(frame.body)} bytes: it has none")
        act = self._track_answer(message) if kind in _ANSWERS else self._track_received(message)
        self.state = target
        return message if act else None

    def _track_answer(self, message: Message) -> bool:
        assert isinstance(message, Result | Error | Item | End | Progress | Event)
        call_id = message.id
        if call_id == 0 and isinstance(message, Error):
            self.state = State.CLOSED
            return True
        state = self.calls.get(call_id)
        following = CALL[state].get(type(message)) if state is not None else None
        if following is None:
            raise InvalidArgument(f"{_name(type(message))} for call {call_id}, which is {state or 'not open'}")
        if type(message) is Item:
            if self._granted.get(call_id, 0) < 1:
                raise InvalidArgument(f"an item of call {call_id} beyond its credit")
            self._granted[call_id] -= 1
        if following is CallState.DONE:
            del self.calls[call_id]
            self._granted.pop(call_id, None)
        else:
            self.calls[call_id] = following
        return state is not CallState.CANCELLED

    def _track_received(self, message: Message) -> bool:
        kind = type(message)
        if kind is Call or kind is Subscribe:
            assert isinstance(message, Call | Subscribe)
            if message.id < 1 or message.id in self.serving:
                raise InvalidArgument(f"call id {message.id} is not free: ids start at 1 and are unique in flight")
            self.serving[message.id] = max(0, message.credit) if isinstance(message, Call) else _SUBSCRIPTION
        elif kind is Credit:
            assert isinstance(message, Credit)
            if message.items < 1:
                raise InvalidArgument(f"credit for {message.items} items: at least 1 is needed")
            if message.id not in self.serving:
                return False  # The call ended while the credit was under way.
            self.serving[message.id] += message.items
        elif kind is Cancel or kind is Unsubscribe:
            assert isinstance(message, Cancel | Unsubscribe)
            return message.id in self.serving
        elif kind is Hello:
            assert isinstance(message, Hello)
            self._negotiate(message.protocol, message.limits)
        elif kind is Welcome:
            assert isinstance(message, Welcome)
            self._negotiate(message.protocol, message.limits)
        return True

    def _negotiate(self, version: int, limits: Limits) -> None:
        if version != PROTOCOL_VERSION:
            raise Unimplemented(
                f"protocol version {version}: this side speaks {PROTOCOL_VERSION}",
                versions=[PROTOCOL_VERSION],
            )
        self.send_limits = self.limits.within(limits)

    def oversized(self, frame: Frame) -> tuple[Message | UnknownMessage | None, SmolError | None]:
        """What a frame whose body was discarded means: a call to be refused (answer it with the error), or
        an answer to be replaced by an error. Raises SmolError when there is no call to blame.
        """
        message = decode_message(frame.header)
        error = ResourceExhausted(
            f"{frame.discarded_bytes} bytes of attachments: the limit is {self.limits.body_bytes} a message",
            limit_bytes=self.limits.body_bytes,
        )
        if isinstance(message, Call):
            self._target(message, sent=False)
            self._track_received(message)
            return message, error
        if isinstance(message, Result | Item):
            substitute = error_message(message.id, error)
            wanted = self._track_answer(substitute)
            if isinstance(message, Item):
                self.calls[message.id] = CallState.CANCELLED  # More items may follow.
            return (substitute if wanted else None), None
        raise error

    def refuse(self, error: SmolError) -> list[Buffer]:
        """Tell the other side why the connection ends, and close it."""
        self.state = State.CLOSED
        return encode_frame(encode_message(error_message(0, error)), (), 0)

    def close(self) -> Iterable[int]:
        """Close, and name our calls that nobody will answer now."""
        self.state = State.CLOSED
        calls, self.calls = list(self.calls), {}
        self.serving.clear()
        self._granted.clear()
        return calls

    # Legal order --------------------------------------------------------------------------------

    def _target(self, message: Message, *, sent: bool) -> State:
        kind = type(message)
        sender = self.role if sent else (Role.PEER if self.role is Role.HOST else Role.HOST)
        wrong_way = (kind in _FROM_PEER and sender is Role.HOST) or (kind in _FROM_HOST and sender is Role.PEER)
        target = None if wrong_way else CONNECTION[self.state].get(kind)
        if target is None:
            text = f"{_name(kind)} from the {sender} while the connection is {self.state}"
            raise FailedPrecondition(text) if sent else InvalidArgument(text)
        return target


def _check_body(headers: Sequence[AttachmentHeader], frame: Frame) -> None:
    if any(header.bytes < 0 for header in headers) or sum(header.bytes for header in headers) != len(frame.body):
        raise InvalidArgument(
            f"attachments of {[header.bytes for header in headers]} bytes "
            f"do not add up to a body of {len(frame.body)}"
        )


def _name(kind: type[Message]) -> str:
    return str(kind.__struct_config__.tag)
