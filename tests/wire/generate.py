"""Makes the golden vectors beside it. Run once for each version of the protocol; then the files are frozen.

Frames are built here by `struct` and `json` alone, so that the vectors do not repeat a fault of the
implementation that they test.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

Json = Any
Step = dict[str, Any]

HELLO = {"type": "hello", "protocol": 1, "name": "vector"}
WELCOME = {"type": "welcome", "protocol": 1}
SMALL = {"header_bytes": 16384, "body_bytes": 64}


def raw(
    header: bytes, body: bytes = b"", *, header_bytes: int | None = None, body_bytes: int | None = None
) -> bytes:
    lengths = (
        len(header) if header_bytes is None else header_bytes,
        len(body) if body_bytes is None else body_bytes,
    )
    return struct.pack(">II", *lengths) + header + body


def frame(message: Json, body: bytes = b"") -> bytes:
    return raw(json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(), body)


def receive(
    *data: bytes, messages: list[Json] | None = None, answers: list[Json] | None = None, closed: str | None = None
) -> Step:
    """Bytes come in. messages: passed on; answers: sent by itself; closed: the code of the refusal."""
    return {
        "receive": b"".join(data).hex(),
        "messages": messages or [],
        "answers": answers or [],
        "closed": closed,
    }


def send(message: Json, body: bytes = b"", *, legal: bool = True) -> Step:
    return {"send": message, "body": body.hex(), "legal": legal}


def passed(message: Json, body: bytes = b"") -> Step:
    """A message comes in and is passed on as it is, with the body."""
    return receive(frame(message, body), messages=[{**message, "body": body.hex()}])


def ignored(message: Json, body: bytes = b"") -> Step:
    return receive(frame(message, body))


def refused(message: Json, code: str = "INVALID_ARGUMENT", body: bytes = b"") -> Step:
    return receive(frame(message, body), closed=code)


def case(name: str, role: str, *steps: Step, state: str = "open", open_first: bool = True, **more: Json) -> Json:
    """state: the state at the end."""
    opening = []
    if open_first and role == "host":
        opening = [passed(HELLO), send(WELCOME)]
    elif open_first:
        opening = [send(HELLO), passed(WELCOME)]
    return {"name": name, "role": role, **more, "steps": [*opening, *steps], "state": state}


def call(call_id: int = 1, **more: Json) -> Json:
    return {"type": "call", "id": call_id, "operation": "math.evaluate", **more}


def attachments(*lengths: int) -> list[Json]:
    return [{"bytes": length} for length in lengths]


def violation(name: str, role: str, *steps: Step, **more: Json) -> Json:
    return case(name, role, *steps, state="closed", **more)


def conversations() -> list[Json]:
    unit = {"name": "math", "version": "1", "operations": [{"name": "evaluate", "input": {"type": "object"}}]}
    return [
        case("host: hello and welcome", "host", truncate=True),
        case("peer: hello and welcome", "peer", truncate=True),
        case(
            "host: the hello of a worker describes its units",
            "host",
            open_first=False,
            state="greeting",
            *[passed({"type": "hello", "protocol": 1, "units": [unit]})],
        ),
        case(
            "peer: a call and its result",
            "peer",
            send(call(arguments={"x": 1})),
            passed({"type": "result", "id": 1, "value": {"text": "⅔", "list": [1, 2.5, None, True]}}),
            truncate=True,
        ),
        case(
            "host: a call is passed on with its defaults",
            "host",
            receive(
                frame(call(7)),
                messages=[
                    {
                        **call(7),
                        "arguments": {},
                        "attachments": [],
                        "budget_ms": 0,
                        "credit": 0,
                        "trace": "",
                        "key": "",
                        "body": "",
                    }
                ],
            ),
        ),
        case(
            "host: a call with everything",
            "host",
            truncate=True,
            *[
                passed(
                    call(
                        9007199254740991,
                        arguments={"image": {"$attachment": 1}, "mask": {"$attachment": 0}},
                        attachments=[
                            {"bytes": 3, "media_type": "image/png", "name": "ü.png"},
                            {"bytes": 0, "media_type": "image/jpeg"},
                        ],
                        budget_ms=60000,
                        credit=8,
                        key="k-1",
                        trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                    ),
                    b"\x00\xff\x7f",
                )
            ],
        ),
        case(
            "host: three calls in one read, answered out of order",
            "host",
            receive(frame(call(1)), frame(call(2)), frame(call(3)), messages=[call(1), call(2), call(3)]),
            send({"type": "result", "id": 3}),
            send({"type": "error", "id": 1, "code": "NOT_FOUND"}),
            send({"type": "result", "id": 2}),
            truncate=True,
        ),
        case(
            "host: both sides may call with the same id",
            "host",
            send(call(1)),
            passed(call(1)),
            send({"type": "result", "id": 1, "value": "ours"}),
            passed({"type": "result", "id": 1, "value": "theirs"}),
        ),
        case(
            "host: an id is free again after its answer",
            "host",
            passed(call(1)),
            send({"type": "result", "id": 1}),
            passed(call(1)),
        ),
        case(
            "peer: an error ends a call",
            "peer",
            send(call(1)),
            passed(
                {
                    "type": "error",
                    "id": 1,
                    "code": "RESOURCE_EXHAUSTED",
                    "message": "busy",
                    "details": {"retry_after_ms": 100},
                }
            ),
            truncate=True,
        ),
        case(
            "peer: progress comes before the result",
            "peer",
            send(call(1)),
            passed({"type": "progress", "id": 1, "fraction": 0.5, "message": "half"}),
            passed({"type": "result", "id": 1, "value": 1}),
        ),
        case(
            "peer: a stream, its credit and its end",
            "peer",
            send(call(1, credit=2)),
            passed({"type": "item", "id": 1, "value": 1}),
            passed({"type": "item", "id": 1, "value": {"$attachment": 0}, "attachments": attachments(2)}, b"ab"),
            send({"type": "credit", "id": 1, "items": 1}),
            passed({"type": "item", "id": 1, "value": 3}),
            passed({"type": "end", "id": 1}),
            truncate=True,
        ),
        case(
            "host: items are sent as far as the credit goes",
            "host",
            passed(call(1, credit=1)),
            send({"type": "item", "id": 1}),
            send({"type": "item", "id": 1}, legal=False),
            passed({"type": "credit", "id": 1, "items": 1}),
            send({"type": "item", "id": 1}),
            send({"type": "end", "id": 1}),
            send({"type": "end", "id": 1}, legal=False),
        ),
        case(
            "host: cancel of a call in flight",
            "host",
            passed(call(1)),
            passed({"type": "cancel", "id": 1, "reason": "gone"}),
            send({"type": "error", "id": 1, "code": "CANCELLED"}),
        ),
        case(
            "host: cancel, credit and unsubscribe of calls that have ended are passed over",
            "host",
            ignored({"type": "cancel", "id": 4}),
            ignored({"type": "credit", "id": 4, "items": 1}),
            ignored({"type": "unsubscribe", "id": 4}),
        ),
        case(
            "peer: what was under way when a call was cancelled is passed over, its end is told",
            "peer",
            send(call(1, credit=4)),
            send({"type": "cancel", "id": 1}),
            ignored({"type": "item", "id": 1}),
            ignored({"type": "progress", "id": 1}),
            passed({"type": "end", "id": 1}),
        ),
        case(
            "peer: a result may cross a cancel",
            "peer",
            send(call(1)),
            send({"type": "cancel", "id": 1}),
            passed({"type": "result", "id": 1}),
        ),
        case(
            "peer: a subscription",
            "peer",
            send({"type": "subscribe", "id": 1, "topic": "unit.*"}),
            passed({"type": "result", "id": 1}),
            passed({"type": "event", "id": 1, "topic": "unit.ready", "data": {"unit": "math"}, "dropped": 2}),
            send({"type": "unsubscribe", "id": 1}),
            ignored({"type": "event", "id": 1, "topic": "unit.ready"}),
            ignored({"type": "end", "id": 1}),
            truncate=True,
        ),
        case(
            "peer: unsubscribe may cross the acknowledgement",
            "peer",
            send({"type": "subscribe", "id": 1, "topic": "a"}),
            send({"type": "unsubscribe", "id": 1}),
            ignored({"type": "result", "id": 1}),
            ignored({"type": "event", "id": 1, "topic": "a"}),
            ignored({"type": "end", "id": 1}),
        ),
        case(
            "host: a subscription is acknowledged, fed and ended",
            "host",
            passed({"type": "subscribe", "id": 1, "topic": "a"}),
            send({"type": "result", "id": 1}),
            send({"type": "event", "id": 1, "topic": "a", "data": 1}),
            passed({"type": "unsubscribe", "id": 1}),
            send({"type": "end", "id": 1}),
            send({"type": "event", "id": 1, "topic": "a"}, legal=False),
        ),
        case("host: publish", "host", passed({"type": "publish", "topic": "math.done", "data": [1]})),
        case(
            "host: ping is answered",
            "host",
            receive(frame({"type": "ping", "nonce": 77}), answers=[{"type": "pong", "nonce": 77}]),
        ),
        case(
            "peer: pong is passed on",
            "peer",
            send({"type": "ping", "nonce": 5}),
            passed({"type": "pong", "nonce": 5}),
        ),
        case(
            "peer: drain, and the call in flight is still answered",
            "peer",
            passed(call(1)),
            passed({"type": "drain"}),
            send({"type": "result", "id": 1}),
            state="draining",
        ),
        case(
            "host: the farewell of a peer",
            "host",
            passed({"type": "error", "code": "INTERNAL", "message": "a unit stopped"}),
            state="closed",
        ),
        case(
            "host: a worker that can't start says why in place of hello",
            "host",
            open_first=False,
            state="closed",
            *[passed({"type": "error", "id": 0, "code": "FAILED_PRECONDITION", "message": "no model"})],
        ),
    ]


def evolution() -> list[Json]:
    """What a newer or a smaller peer may say."""
    return [
        case(
            "host: unknown fields are ignored",
            "host",
            receive(frame({**call(1), "shard": [1, {"deep": None}], "colour": "ü"}), messages=[call(1)]),
        ),
        case(
            "host: the type may stand anywhere in the object",
            "host",
            receive(
                raw(b' { "id" : 1, "operation":"a.b",\n"type":"call" } '),
                messages=[{"type": "call", "id": 1, "operation": "a.b"}],
            ),
        ),
        case(
            "host: an unknown type with an id is refused politely",
            "host",
            receive(
                frame({"type": "shard", "id": 5, "x": 1}),
                answers=[{"type": "error", "id": 5, "code": "UNIMPLEMENTED"}],
            ),
            passed(call(5)),
        ),
        case(
            "host: an unknown type with a body is refused politely too",
            "host",
            receive(
                frame({"type": "shard", "id": 5}, b"body"),
                answers=[{"type": "error", "id": 5, "code": "UNIMPLEMENTED"}],
            ),
        ),
        case("host: an unknown type without an id is passed over", "host", ignored({"type": "gossip"})),
        case(
            "host: an unknown type about a call in flight is passed over",
            "host",
            passed(call(5)),
            ignored({"type": "hint", "id": 5}),
        ),
        violation(
            "host: an unknown type before hello", "host", refused({"type": "shard", "id": 5}), open_first=False
        ),
        violation(
            "host: another protocol version",
            "host",
            open_first=False,
            *[refused({"type": "hello", "protocol": 2}, "UNIMPLEMENTED")],
        ),
        violation(
            "peer: another protocol version",
            "peer",
            send(HELLO),
            open_first=False,
            *[refused({"type": "welcome", "protocol": 0}, "UNIMPLEMENTED")],
        ),
        case(
            "host: the smaller limits hold for what is sent",
            "host",
            open_first=False,
            *[
                passed({**HELLO, "limits": SMALL}),
                send(WELCOME),
                passed(call(1)),
                passed(call(2)),
                send({"type": "result", "id": 1, "attachments": attachments(65)}, b"x" * 65, legal=False),
                send({"type": "result", "id": 1, "attachments": attachments(64)}, b"x" * 64),
                send({"type": "result", "id": 2, "value": "x" * 16384}, legal=False),
                send({"type": "result", "id": 2, "value": "x" * 16000}),
            ],
        ),
        violation(
            "host: a header limit that an error may not fit",
            "host",
            open_first=False,
            *[refused({**HELLO, "limits": {"header_bytes": 16383, "body_bytes": 64}})],
        ),
        violation(
            "host: a negative body limit",
            "host",
            open_first=False,
            *[refused({**HELLO, "limits": {"header_bytes": 16384, "body_bytes": -1}})],
        ),
    ]


def sizes() -> list[Json]:
    over = frame(call(1, attachments=attachments(65)), b"x" * 65)
    return [
        violation("host: an empty header", "host", receive(raw(b""), closed="INVALID_ARGUMENT")),
        violation(
            "host: an empty header before a body", "host", receive(raw(b"", b"abc"), closed="INVALID_ARGUMENT")
        ),
        violation(
            "host: a header over the limit is refused at its length",
            "host",
            limits=SMALL,
            *[receive(raw(b"", header_bytes=16385), closed="RESOURCE_EXHAUSTED")],
        ),
        violation(
            "host: text in place of a length",
            "host",
            open_first=False,
            *[receive(b"GET / HTTP/1.1\r\n\r\n", closed="RESOURCE_EXHAUSTED")],
        ),
        case(
            "host: a header of exactly the limit",
            "host",
            limits=SMALL,
            *[passed(call(1, key="k" * (16384 - len(frame(call(1, key=""))) + 8)))],
        ),
        case(
            "host: a body of exactly the limit",
            "host",
            limits=SMALL,
            *[passed(call(1, attachments=attachments(60, 4)), b"x" * 64)],
        ),
        case(
            "host: a body over the limit fails its call alone",
            "host",
            limits=SMALL,
            truncate=True,
            *[
                receive(
                    over,
                    frame(call(2)),
                    messages=[call(2)],
                    answers=[{"type": "error", "id": 1, "code": "RESOURCE_EXHAUSTED"}],
                ),
                receive(over, answers=[{"type": "error", "id": 1, "code": "RESOURCE_EXHAUSTED"}]),
            ],
        ),
        case(
            "peer: a result over the limit becomes an error",
            "peer",
            limits=SMALL,
            *[
                send(call(1)),
                receive(
                    frame({"type": "result", "id": 1, "attachments": attachments(65)}, b"x" * 65),
                    messages=[{"type": "error", "id": 1, "code": "RESOURCE_EXHAUSTED"}],
                ),
                send(call(1)),
            ],
        ),
        case(
            "peer: an item over the limit becomes an error and cancels its stream",
            "peer",
            limits=SMALL,
            *[
                send(call(1, credit=2)),
                receive(
                    frame({"type": "item", "id": 1, "attachments": attachments(65)}, b"x" * 65),
                    messages=[{"type": "error", "id": 1, "code": "RESOURCE_EXHAUSTED"}],
                    answers=[{"type": "cancel", "id": 1}],
                ),
                ignored({"type": "item", "id": 1}),
                passed({"type": "end", "id": 1}),
            ],
        ),
        case(
            "host: an unknown type over the limit is refused politely",
            "host",
            limits=SMALL,
            *[
                receive(
                    frame({"type": "shard", "id": 5}, b"x" * 65),
                    answers=[{"type": "error", "id": 5, "code": "UNIMPLEMENTED"}],
                )
            ],
        ),
        violation(
            "host: a body over the limit behind a message that has none",
            "host",
            limits=SMALL,
            *[refused({"type": "ping"}, body=b"x" * 65)],
        ),
    ]


def malformed() -> list[Json]:
    headers = {
        "no JSON": b"hello",
        "JSON cut short": b'{"type":"ping"',
        "something behind the JSON": b'{"type":"ping"}{}',
        "a list": b"[]",
        "a number": b"1",
        "no type": b'{"id":1}',
        "a type that is no text": b'{"type":1}',
        "a byte order mark": b'\xef\xbb\xbf{"type":"ping"}',
        "a NUL": b'{"type":"ping"}\x00',
        "bad UTF-8 in a known field": b'{"type":"call","id":1,"operation":"\xff"}',
        "bad UTF-8 in a value": b'{"type":"call","id":1,"operation":"a.b","arguments":{"x":"\xff"}}',
        "bad UTF-8 in the data of an event": b'{"type":"publish","topic":"a","data":"\xc3\x28"}',
        "bad UTF-8 in an unknown field": b'{"type":"ping","x":"\xed\xa0\x80"}',
        "bad JSON in a value": b'{"type":"call","id":1,"operation":"a.b","arguments":{"x":01}}',
        "a value nested too deep": b'{"type":"call","id":1,"operation":"a.b","arguments":' + b"[" * 20000 + b"}",
        "a control character in a text": b'{"type":"call","id":1,"operation":"a\nb"}',
        "id 0": b'{"type":"call","id":0,"operation":"a.b"}',
        "a negative id": b'{"type":"cancel","id":-1}',
        "an id over 2^53 - 1": b'{"type":"call","id":9007199254740992,"operation":"a.b"}',
        "a fractional id": b'{"type":"call","id":1.5,"operation":"a.b"}',
        "an id that is text": b'{"type":"call","id":"1","operation":"a.b"}',
        "no id": b'{"type":"call","operation":"a.b"}',
        "no operation": b'{"type":"call","id":1}',
        "a negative budget": b'{"type":"call","id":1,"operation":"a.b","budget_ms":-1}',
        "a negative credit": b'{"type":"call","id":1,"operation":"a.b","credit":-1}',
        "credit for no item": b'{"type":"credit","id":1,"items":0}',
        "credit over 2^31 - 1": b'{"type":"credit","id":1,"items":2147483648}',
        "null for a number": b'{"type":"call","id":1,"operation":"a.b","budget_ms":null}',
        "a negative attachment": b'{"type":"call","id":1,"operation":"a.b","attachments":[{"bytes":-1}]}',
        "an attachment without a length": b'{"type":"call","id":1,"operation":"a.b","attachments":[{}]}',
    }
    cases = [
        violation(f"host: {name}", "host", receive(raw(header), closed="INVALID_ARGUMENT"))
        for name, header in headers.items()
    ]
    bodies = {
        "a body without attachments": frame(call(1), b"x"),
        "attachments without a body": frame(call(1, attachments=attachments(1))),
        "attachments shorter than the body": frame(call(1, attachments=attachments(1, 1)), b"xxx"),
        "attachments longer than the body": frame(call(1, attachments=attachments(2, 2)), b"xxx"),
        "a body behind a message that has none": frame({"type": "ping"}, b"x"),
    }
    return cases + [
        violation(f"host: {name}", "host", receive(data, closed="INVALID_ARGUMENT"))
        for name, data in bodies.items()
    ]


def order() -> list[Json]:
    before_hello = [call(1), {"type": "ping"}, WELCOME, {"type": "drain"}, {"type": "publish", "topic": "a"}]
    item = {"type": "item", "id": 1}
    stream = send(call(1, credit=1))
    subscribe = {"type": "subscribe", "id": 1, "topic": "a"}
    return [
        *(
            violation(f"host: {message['type']} before hello", "host", refused(message), open_first=False)
            for message in before_hello
        ),
        violation("peer: a call before welcome", "peer", send(HELLO), refused(call(1)), open_first=False),
        violation(
            "peer: an answer before welcome",
            "peer",
            send(HELLO),
            refused({"type": "result", "id": 1}),
            open_first=False,
        ),
        violation("host: a second hello", "host", refused(HELLO)),
        violation("peer: a second welcome", "peer", refused(WELCOME)),
        violation("peer: hello from the host", "peer", refused(HELLO), open_first=False),
        violation("peer: subscribe from the host", "peer", refused(subscribe)),
        violation("host: an event from the peer", "host", refused({"type": "event", "id": 1, "topic": "a"})),
        violation("host: a duplicate id", "host", passed(call(1)), refused(call(1))),
        violation("host: a subscription with the id of a call", "host", passed(call(1)), refused(subscribe)),
        *(
            violation(f"peer: {kind} for a call that is not open", "peer", refused({"type": kind, "id": 1}))
            for kind in ("result", "error", "item", "end", "progress")
        ),
        violation(
            "peer: a second result",
            "peer",
            send(call(1)),
            passed({"type": "result", "id": 1}),
            refused({"type": "result", "id": 1}),
        ),
        violation("peer: an item without credit", "peer", send(call(1)), refused(item)),
        violation("peer: an item beyond the credit", "peer", stream, passed(item), refused(item)),
        violation(
            "peer: a cancelled stream keeps to its credit too",
            "peer",
            stream,
            send({"type": "cancel", "id": 1}),
            ignored(item),
            refused(item),
        ),
        violation(
            "peer: a result after an item", "peer", stream, passed(item), refused({"type": "result", "id": 1})
        ),
        violation("peer: an item after the end", "peer", stream, passed({"type": "end", "id": 1}), refused(item)),
        violation(
            "peer: an event for a call", "peer", send(call(1)), refused({"type": "event", "id": 1, "topic": "a"})
        ),
        violation(
            "peer: progress of a subscription", "peer", send(subscribe), refused({"type": "progress", "id": 1})
        ),
        violation(
            "host: cancel of a subscription", "host", passed(subscribe), refused({"type": "cancel", "id": 1})
        ),
        violation(
            "host: unsubscribe of a call", "host", passed(call(1)), refused({"type": "unsubscribe", "id": 1})
        ),
        violation(
            "host: credit for a subscription",
            "host",
            passed(subscribe),
            refused({"type": "credit", "id": 1, "items": 1}),
        ),
        violation(
            "host: more credit than 2^31 - 1 in all",
            "host",
            passed(call(1, credit=2147483647)),
            refused({"type": "credit", "id": 1, "items": 1}),
        ),
        violation(
            "host: what follows a violation is not looked at",
            "host",
            receive(frame(call(1)), frame(call(1)), frame(call(2)), messages=[call(1)], closed="INVALID_ARGUMENT"),
        ),
    ]


def illegal_to_send() -> list[Json]:
    """What an implementation must not send, whatever its user asks for."""
    answers = [{"type": kind, "id": 1} for kind in ("result", "error", "item", "end", "progress")]
    return [
        case("host: a call before hello", "host", send(call(1), legal=False), open_first=False, state="new"),
        case("host: welcome before hello", "host", send(WELCOME, legal=False), open_first=False, state="new"),
        case(
            "peer: a call before welcome",
            "peer",
            send(HELLO),
            send(call(1), legal=False),
            open_first=False,
            state="greeting",
        ),
        case("host: hello", "host", send(HELLO, legal=False)),
        case("peer: an id in use", "peer", send(call(1)), send(call(1), legal=False)),
        case("peer: id 0", "peer", send(call(0), legal=False)),
        *(
            case(f"host: {message['type']} for a call that is not open", "host", send(message, legal=False))
            for message in answers
            if message["type"] != "error"
        ),
        case(
            "host: a result after an item",
            "host",
            passed(call(1, credit=1)),
            send({"type": "item", "id": 1}),
            send({"type": "result", "id": 1}, legal=False),
            send({"type": "end", "id": 1}),
        ),
        case(
            "host: an event for a call",
            "host",
            passed(call(1)),
            send({"type": "event", "id": 1, "topic": "a"}, legal=False),
        ),
        case(
            "peer: credit, cancel and unsubscribe without a call",
            "peer",
            send({"type": "credit", "id": 1, "items": 1}, legal=False),
            send({"type": "cancel", "id": 1}, legal=False),
            send({"type": "unsubscribe", "id": 1}, legal=False),
        ),
        case(
            "peer: attachments that do not add up",
            "peer",
            send(call(1, attachments=attachments(1)), b"xx", legal=False),
        ),
    ]


def main() -> None:
    groups = (conversations, evolution, sizes, malformed, order, illegal_to_send)
    for group in groups:
        path = Path(__file__).with_name(f"{group.__name__}.json")
        text = json.dumps(group(), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
