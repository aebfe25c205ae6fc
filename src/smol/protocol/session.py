"""One side of a connection, by the tables in `order`.

A session is fed frames and asked for buffers; it holds the state and no payload, and never retries.
What one session agrees to send, another agrees to receive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from smol.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, SmolError, Unimplemented
from smol.protocol.frames import Buffer, Frame, Limits, encode_frame
from smol.protocol.messages import (
    MAX_CREDIT,
    MAX_ID,
    PROTOCOL_VERSION,
    Call,
    Cancel,
    Credit,
    End,
    Error,
    Event,
    Hello,
    Item,
    Message,
    Progress,
    Result,
    Subscribe,
    UnknownMessage,
    Unsubscribe,
    Welcome,
    decode_message,
    encode_message,
    error_message,
)
from smol.protocol.order import CALL, LEGAL, WITH_BODY, CallState, Role, State
from smol.protocol.payload import check_body

__all__ = ["CallState", "Role", "Session", "State"]

_SUBSCRIPTION = -1
"""Stands in `serving` for a subscription, where a call has its credit."""


class Session:
    """The state of one side.

    calls: ours, by id. serving: the other side's with us, by id, and how many items of it they can take.
    """

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        self.role = role
        self.limits = limits or Limits()
        self.send_limits = self.limits
        self.state = State.NEW
        self.calls: dict[int, CallState] = {}
        self.serving: dict[int, int] = {}
        self._streaming: set[int] = set()
        self._granted: dict[int, int] = {}
        self._last_id = 0
        self._may_send = LEGAL[role]
        self._may_receive = LEGAL[Role.PEER if role is Role.HOST else Role.HOST]

    def next_id(self) -> int:
        """A fresh id for a call of ours."""
        self._last_id += 1
        return self._last_id

    # Sending ------------------------------------------------------------------------------------

    def send(self, message: Message, body: Sequence[Buffer] = (), body_bytes: int = 0) -> list[Buffer]:
        """The buffers of a frame. Raises FailedPrecondition when `message` is not legal now,
        ResourceExhausted when it is larger than the other side accepts; then nothing has changed.
        """
        kind = type(message)
        target = self._may_send[self.state].get(kind)
        if target is None:
            raise FailedPrecondition(f"{_name(kind)} can't be sent by the {self.role} while {self.state}")
        header = encode_message(message)
        if len(header) > self.send_limits.header_bytes or body_bytes > self.send_limits.body_bytes:
            raise _too_large(len(header), body_bytes, self.send_limits)
        if body_bytes or kind in WITH_BODY:
            _check_body(message, body_bytes)
        track = _SENT.get(kind)
        if track is not None:
            track(self, message)
        self.state = State.CLOSED if kind is Error and _is_farewell(message) else target
        return encode_frame(header, body, body_bytes)

    def _sent_call(self, message: Call) -> None:
        if not 0 <= message.credit <= MAX_CREDIT:
            raise FailedPrecondition(f"a credit of {message.credit} items: 0 to {MAX_CREDIT}")
        self._begin(message.id, CallState.OPEN)
        if message.credit:
            self._granted[message.id] = message.credit

    def _sent_subscribe(self, message: Subscribe) -> None:
        self._begin(message.id, CallState.SUBSCRIBED)

    def _begin(self, call_id: int, state: CallState) -> None:
        if not 1 <= call_id <= MAX_ID or call_id in self.calls:
            raise FailedPrecondition(f"call id {call_id} is not free")
        self.calls[call_id] = state

    def _sent_result(self, message: Result) -> None:
        credit = self._served(message.id)
        if message.id in self._streaming:
            raise FailedPrecondition(f"call {message.id} has sent items: only end or error can follow")
        if credit != _SUBSCRIPTION:  # There it acknowledges, and the subscription stays open.
            del self.serving[message.id]

    def _sent_last(self, message: End | Error) -> None:
        if _is_farewell(message):
            return
        self._served(message.id)
        del self.serving[message.id]
        self._streaming.discard(message.id)

    def _sent_item(self, message: Item) -> None:
        credit = self._served(message.id)
        if credit < 1:
            raise FailedPrecondition(f"no credit left for an item of call {message.id}")
        self.serving[message.id] = credit - 1
        self._streaming.add(message.id)

    def _sent_progress(self, message: Progress) -> None:
        if self._served(message.id) == _SUBSCRIPTION:
            raise FailedPrecondition(f"{message.id} is a subscription, which has no progress")

    def _sent_event(self, message: Event) -> None:
        if self._served(message.id) != _SUBSCRIPTION:
            raise FailedPrecondition(f"{message.id} is a call, which has no events")

    def _served(self, call_id: int) -> int:
        credit = self.serving.get(call_id)
        if credit is None:
            raise FailedPrecondition(f"call {call_id} is not open")
        return credit

    def _sent_credit(self, message: Credit) -> None:
        granted = self._granted.get(message.id, 0) + message.items
        if self.calls.get(message.id) not in (CallState.OPEN, CallState.STREAMING):
            raise FailedPrecondition(f"call {message.id} is not open")
        if message.items < 1 or granted > MAX_CREDIT:
            raise FailedPrecondition(f"credit for {message.items} items: 1 to {MAX_CREDIT} in all")
        self._granted[message.id] = granted

    def _sent_cancel(self, message: Cancel | Unsubscribe) -> None:
        state = self.calls.get(message.id)
        subscribed = state in (CallState.SUBSCRIBED, CallState.UNSUBSCRIBED)
        if state is None or subscribed != isinstance(message, Unsubscribe):
            raise FailedPrecondition(f"{_name(type(message))} of {message.id}, which is {state or 'not open'}")
        self.calls[message.id] = CallState.UNSUBSCRIBED if subscribed else CallState.CANCELLED

    # Receiving ----------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> Message | UnknownMessage | None:
        """The message in `frame` if it is to be acted on; None when it needs no attention. An unknown
        message that comes back is to be answered with an error.

        Raises SmolError when the other side broke the rules: then `refuse` says what to send, and
        nothing has changed. An attachment list that does not match the body breaks them too.
        """
        message = decode_message(frame.header)
        kind = type(message)
        target = self._may_receive[self.state].get(kind)
        if isinstance(message, UnknownMessage) or target is None:
            return self._receive_unknown(message)
        body_bytes = len(frame.body) + frame.discarded_bytes
        if body_bytes or kind in WITH_BODY:
            _check_body(message, body_bytes)
        track = _RECEIVED.get(kind)
        wanted = track is None or track(self, message)
        self.state = State.CLOSED if kind is Error and _is_farewell(message) else target
        return message if wanted else None

    def oversized(self, frame: Frame) -> tuple[Message | UnknownMessage | None, SmolError | None]:
        """What a frame whose body was discarded means: a call to be refused (answer it with the error), or
        an answer to be replaced by an error. Raises as `receive` does.
        """
        message = self.receive(frame)
        error = ResourceExhausted(
            f"{frame.discarded_bytes} bytes of attachments: the limit is {self.limits.body_bytes} a message",
            limit_bytes=self.limits.body_bytes,
        )
        if isinstance(message, Call):
            return message, error
        if not isinstance(message, Result | Item):
            return message, None
        if isinstance(message, Item):
            self.calls[message.id] = CallState.CANCELLED  # More items may follow.
        return error_message(message.id, error), None

    def _receive_unknown(self, message: Message | UnknownMessage) -> UnknownMessage | None:
        """What a newer protocol may call is to be answered; anything else of it is passed over."""
        if isinstance(message, UnknownMessage) and self.state in (State.OPEN, State.DRAINING):
            if not 1 <= message.id <= MAX_ID or message.id in self.serving:
                return None
            self.serving[message.id] = 0
            return message
        name = repr(message.type) if isinstance(message, UnknownMessage) else _name(type(message))
        sender = Role.PEER if self.role is Role.HOST else Role.HOST
        raise InvalidArgument(f"{name} from the {sender} while the connection is {self.state}")

    def _received_answer(self, message: Result | Error | Item | End | Progress | Event) -> bool:
        call_id = message.id
        state = self.calls.get(call_id)
        following = CALL[state].get(type(message)) if state is not None else None
        if following is None:
            if _is_farewell(message):
                return True
            raise InvalidArgument(f"{_name(type(message))} for call {call_id}, which is {state or 'not open'}")
        if following is CallState.DONE:
            del self.calls[call_id]
            self._granted.pop(call_id, None)
        else:
            self.calls[call_id] = following
        if state is CallState.CANCELLED:
            return following is CallState.DONE  # Whoever passed it on to here has a place free now.
        return state is not CallState.UNSUBSCRIBED

    def _received_result(self, message: Result) -> bool:
        if message.attachments and self.calls.get(message.id) in (CallState.SUBSCRIBED, CallState.UNSUBSCRIBED):
            raise InvalidArgument(f"attachments for subscription {message.id}: it can only be acknowledged")
        return self._received_answer(message)

    def _received_item(self, message: Item) -> bool:
        granted = self._granted.get(message.id, 0)
        if granted < 1:
            raise InvalidArgument(f"an item for call {message.id} beyond its credit")
        wanted = self._received_answer(message)
        self._granted[message.id] = granted - 1
        return wanted

    def _received_call(self, message: Call) -> bool:
        self._begin_serving(message.id, message.credit)
        return True

    def _received_subscribe(self, message: Subscribe) -> bool:
        self._begin_serving(message.id, _SUBSCRIPTION)
        return True

    def _begin_serving(self, call_id: int, credit: int) -> None:
        if call_id in self.serving:
            raise InvalidArgument(f"call id {call_id} is not free: ids are unique among the calls in flight")
        self.serving[call_id] = credit

    def _received_credit(self, message: Credit) -> bool:
        credit = self.serving.get(message.id)
        if credit is None:
            return False  # The call ended while the credit was under way.
        if credit == _SUBSCRIPTION or credit + message.items > MAX_CREDIT:
            raise InvalidArgument(f"credit for {message.items} items of {message.id}, which can't take them")
        self.serving[message.id] = credit + message.items
        return True

    def _received_cancel(self, message: Cancel | Unsubscribe) -> bool:
        credit = self.serving.get(message.id)
        if credit is None:
            return False  # The call ended while this was under way.
        if (credit == _SUBSCRIPTION) != isinstance(message, Unsubscribe):
            raise InvalidArgument(f"{_name(type(message))} of {message.id}, which is not of its kind")
        return True

    def _received_greeting(self, message: Hello | Welcome) -> bool:
        if message.protocol != PROTOCOL_VERSION:
            raise Unimplemented(
                f"protocol version {message.protocol}: this side speaks {PROTOCOL_VERSION}",
                versions=[PROTOCOL_VERSION],
            )
        self.send_limits = self.limits.within(message.limits)
        return True

    # Ending -------------------------------------------------------------------------------------

    def refuse(self, error: SmolError) -> list[Buffer]:
        """Tell the other side why the connection ends, and close it."""
        self.state = State.CLOSED
        return encode_frame(encode_message(error_message(0, error)), (), 0)

    def close(self) -> Iterable[int]:
        """Close, and name our calls that nobody will answer now."""
        self.state = State.CLOSED
        calls, self.calls = list(self.calls), {}
        self.serving.clear()
        self._streaming.clear()
        self._granted.clear()
        return calls


# A message that stands in neither table changes no more than `CONNECTION` says.

_SENT: Mapping[type[Message], Callable[[Session, Any], None]] = {
    Call: Session._sent_call,
    Result: Session._sent_result,
    Error: Session._sent_last,
    End: Session._sent_last,
    Item: Session._sent_item,
    Progress: Session._sent_progress,
    Event: Session._sent_event,
    Credit: Session._sent_credit,
    Subscribe: Session._sent_subscribe,
    Cancel: Session._sent_cancel,
    Unsubscribe: Session._sent_cancel,
}

_RECEIVED: Mapping[type[Any], Callable[[Session, Any], bool]] = {
    Hello: Session._received_greeting,
    Welcome: Session._received_greeting,
    Call: Session._received_call,
    Result: Session._received_result,
    Error: Session._received_answer,
    End: Session._received_answer,
    Item: Session._received_item,
    Progress: Session._received_answer,
    Event: Session._received_answer,
    Credit: Session._received_credit,
    Subscribe: Session._received_subscribe,
    Cancel: Session._received_cancel,
    Unsubscribe: Session._received_cancel,
}


def _is_farewell(message: Message) -> bool:
    """Whether it is the error of the connection itself, after which nothing follows."""
    return type(message) is Error and message.id == 0


def _check_body(message: Message, body_bytes: int) -> None:
    if type(message) in WITH_BODY:
        attachments = message.attachments  # type: ignore[attr-defined]
        if attachments or body_bytes:
            check_body(attachments, body_bytes)
    elif body_bytes:
        raise InvalidArgument(f"a body of {body_bytes} bytes: a {_name(type(message))} message has none")


def _too_large(header_bytes: int, body_bytes: int, limits: Limits) -> ResourceExhausted:
    if header_bytes > limits.header_bytes:
        return ResourceExhausted(
            f"{header_bytes} bytes of JSON: the limit is {limits.header_bytes}; send large values as attachments",
            limit_bytes=limits.header_bytes,
        )
    return ResourceExhausted(
        f"{body_bytes} bytes of attachments: the limit is {limits.body_bytes} a message",
        limit_bytes=limits.body_bytes,
    )


def _name(kind: type[Any]) -> str:
    return str(kind.__struct_config__.tag)
