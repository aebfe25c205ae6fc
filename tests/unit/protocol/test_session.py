"""What the vectors can't say: any sequence, both ends, messages that cross."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, SmolError
from smol.protocol import Buffer, Frame, FrameDecoder, Limits, Role, Session, State
from smol.protocol.messages import (
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
    Unsubscribe,
    Welcome,
    encode_message,
)
from smol.protocol.order import CALL, CONNECTION, CallState

IDS = st.integers(1, 2)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Call, id=IDS, operation=st.just("a.b"), credit=st.integers(0, 2)),
    st.builds(Result, id=IDS),
    st.builds(Error, id=st.integers(0, 2)) | st.builds(Error, id=IDS),
    st.builds(Item, id=IDS),
    st.builds(End, id=IDS),
    st.builds(Progress, id=IDS),
    st.builds(Credit, id=IDS, items=st.integers(1, 2)),
    st.builds(Cancel, id=IDS),
    st.builds(Subscribe, id=IDS, topic=st.just("t")),
    st.builds(Unsubscribe, id=IDS),
    st.builds(Event, id=IDS, topic=st.just("t")),
    st.sampled_from([Ping(), Pong(), Drain(), Publish(topic="t"), Hello(protocol=1), Welcome(protocol=1)]),
)


def frame_of(buffers: list[Buffer]) -> Frame:
    (frame,) = FrameDecoder(Limits()).feed(b"".join(buffers))
    return frame


def snapshot(session: Session) -> Any:
    return (session.state, dict(session.calls), dict(session.serving), dict(session._granted),
            set(session._streaming), session.send_limits)  # fmt: skip


def opened() -> tuple[Session, Session]:
    host, peer = Session(Role.HOST), Session(Role.PEER)
    host.receive(frame_of(peer.send(Hello(protocol=1))))
    peer.receive(frame_of(host.send(Welcome(protocol=1))))
    return host, peer


@settings(max_examples=400)
@given(steps=st.lists(st.tuples(st.booleans(), st.none() | MESSAGES), max_size=60))
def test_what_one_session_agrees_to_send_the_other_takes_however_messages_cross(
    steps: list[tuple[bool, Message | None]],
) -> None:
    sessions = opened()
    towards: tuple[deque[Frame], deque[Frame]] = (deque(), deque())
    for first, message in steps:
        here, there = (0, 1) if first else (1, 0)
        if message is None:
            if towards[here]:
                frame = towards[here].popleft()
                if sessions[here].state is not State.CLOSED:
                    sessions[here].receive(frame)
            continue
        before = snapshot(sessions[here])
        try:
            towards[there].append(frame_of(sessions[here].send(message)))
        except FailedPrecondition:
            assert snapshot(sessions[here]) == before
    for here in (0, 1):
        while towards[here] and sessions[here].state is not State.CLOSED:
            sessions[here].receive(towards[here].popleft())
    if State.CLOSED not in (sessions[0].state, sessions[1].state):
        for here, there in ((0, 1), (1, 0)):
            assert set(sessions[here].calls) == set(sessions[there].serving)


@settings(max_examples=300)
@given(
    role=st.sampled_from(Role),
    steps=st.lists(st.tuples(st.sampled_from(["send", "receive"]), MESSAGES), max_size=40),
)
def test_any_messages_leave_a_session_in_a_known_state_and_illegal_ones_change_nothing(
    role: Role, steps: list[tuple[str, Message]]
) -> None:
    session = Session(role)
    for way, message in steps:
        before = snapshot(session)
        try:
            if way == "send":
                session.send(message)
            else:
                session.receive(Frame(encode_message(message)))
        except SmolError:
            assert snapshot(session) == before
        assert session.state in CONNECTION
        assert all(state in CALL for state in session.calls.values())
        assert all(credit >= -1 for credit in session.serving.values())
        assert set(session._granted) <= set(session.calls)
        assert session._streaming <= set(session.serving)


def test_every_state_of_a_call_but_done_has_its_row() -> None:
    assert set(CALL) == set(CallState) - {CallState.DONE}


def test_a_farewell_in_mid_conversation_closes_both_sides() -> None:
    host, peer = opened()
    frame = frame_of(host.send(Error(code="INTERNAL")))
    assert host.state is State.CLOSED
    assert peer.receive(frame) is not None
    assert peer.state is State.CLOSED


def test_what_is_too_large_for_the_other_side_is_not_sent() -> None:
    host, peer = Session(Role.HOST), Session(Role.PEER, Limits(16_384, 10))
    host.receive(frame_of(peer.send(Hello(protocol=1, limits=peer.limits))))
    host.send(Welcome(protocol=1))
    before = snapshot(host)
    with pytest.raises(ResourceExhausted) as caught:
        host.send(Call(id=1, operation="a.b", attachments=[AttachmentHeader(11)]), [b"x" * 11], 11)
    assert caught.value.details == {"limit_bytes": 10}
    with pytest.raises(ResourceExhausted) as caught:
        host.send(Call(id=1, operation="a" * 16_384))
    assert caught.value.details == {"limit_bytes": 16_384}
    assert snapshot(host) == before


def test_a_refusal_closes_and_says_why() -> None:
    host, peer = opened()
    frame = frame_of(host.refuse(InvalidArgument("no")))
    assert host.state is State.CLOSED
    farewell = peer.receive(frame)
    assert isinstance(farewell, Error)
    assert (farewell.id, farewell.code, farewell.message) == (0, "INVALID_ARGUMENT", "no")


def test_closing_names_the_calls_that_nobody_answers_now() -> None:
    host, peer = opened()
    peer.receive(frame_of(host.send(Call(id=1, operation="a.b"))))
    host.send(Call(id=2, operation="a.b"))
    assert list(host.close()) == [1, 2]
    assert list(peer.close()) == []
    assert (host.calls, peer.serving, host.state) == ({}, {}, State.CLOSED)


def test_ids_are_fresh() -> None:
    session = Session(Role.PEER)
    assert [session.next_id() for _ in range(3)] == [1, 2, 3]
