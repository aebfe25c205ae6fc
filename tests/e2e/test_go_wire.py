"""What one language accepts on the wire, the other does too: mutated messages, judged by both."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smol.errors import SmolError
from smol.protocol.messages import UnknownMessage, decode_message

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WIRE = Path(__file__).parents[1] / "wire"
CASES = 30_000
PIECES = [
    b"null", b"true", b"0", b"-0", b"1", b"-1", b"1.0", b"1e2", b"9007199254740991", b"9007199254740992", b'""',
    b'"\\ud800"', b'"\\ud83d\\ude00"', b"{}", b"[]", b"[{}]", b'{"a":1,"a":2}', b" ", b"\t", b"\n", b",", b":",
    b'"', b"\\", b"{", b"}", b"[", b"]", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\x00", b"4294967295",
    b"2147483647", b"2147483648", b'"id"', b'"type"', b'"call"', b"1E5", b"01", b"1.5e3", b"NaN", b"1e999", b"-",
    b"4294967296", b"18446744073709551616", b"\x0c", b"\xef\xbb\xbf", b'{"$attachment":0}',
]  # fmt: skip
TOKEN = re.compile(rb'"[^"]*"|-?\d+|\{\}|\[\]|true|false|null')


def headers() -> Iterator[bytes]:
    """The headers of the golden vectors."""
    for path in sorted(WIRE.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            for step in case["steps"]:
                data = bytes.fromhex(step.get("receive", ""))
                while len(data) >= 8:
                    header_bytes, body_bytes = struct.unpack(">II", data[:8])
                    if 8 + header_bytes <= len(data) and header_bytes < 4000:
                        yield data[8 : 8 + header_bytes]
                    data = data[8 + header_bytes + body_bytes :]


def mutate(header: bytes, dice: random.Random) -> bytes:
    """Another header: tokens, pieces and bytes replaced, put in and left out."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        at = dice.randrange(len(header) + 1)
        match dice.randrange(6):
            case 0 | 1 | 2 if tokens := list(TOKEN.finditer(header)):
                token = dice.choice(tokens)
                header = header[: token.start()] + dice.choice(PIECES) + header[token.end() :]
            case 3:
                header = header[:at] + dice.choice(PIECES) + header[at:]
            case 4:
                header = header[:at] + header[at + 1 :]
            case _:
                header = header[:at] + bytes([dice.randrange(256)]) + header[at + 1 :]
    return header


def verdict(header: bytes) -> str:
    try:
        message = decode_message(header)
    except SmolError:
        return "refused"
    return "unknown" if isinstance(message, UnknownMessage) else str(message.__struct_config__.tag)


def test_python_and_go_agree_on_what_a_message_is(go_tools: Path) -> None:
    dice = random.Random(20261123)
    known = list(headers())
    cases = [*known, *(mutate(dice.choice(known), dice) for _ in range(CASES))]
    lines = "".join(f"{case.hex()}\n" for case in cases)
    done = subprocess.run([go_tools / "verdict"], input=lines, capture_output=True, text=True, check=True)
    verdicts = done.stdout.split()
    assert len(verdicts) == len(cases)
    apart = [(case, go, verdict(case)) for case, go in zip(cases, verdicts, strict=True) if go != verdict(case)]
    assert not apart, apart[:5]
