from __future__ import annotations

import json
import os
import random
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.sandbox.claims import FRAME_BYTES, Claim, ClaimReader

CASES = int(os.environ.get("SMOL_FUZZ_CASES", "100000"))


def framed(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


def read(*parts: bytes) -> ClaimReader:
    reader = ClaimReader()
    for part in parts:
        reader.feed(part)
    return reader


def test_a_value_comes_as_json() -> None:
    assert read(framed(b'{"status": 0, "json": "[1]"}')).claims == [Claim(0, [1])]


def test_a_claim_may_come_in_pieces() -> None:
    data = framed(b'{"status": 3, "repr": "x"}')
    assert read(*(data[i : i + 1] for i in range(len(data)))).claims == [Claim(3, None, "x")]


@pytest.mark.parametrize(
    "text", ["[" * 100 + "]" * 100, '{"$attachment": 0}', "{", '"\\ud800"', "1e999", "[" * 5000]
)
def test_json_that_can_not_be_sent_on_becomes_text(text: str) -> None:
    (claim,) = read(framed(json.dumps({"status": 0, "json": text}).encode())).claims
    msgspec.json.encode(claim)
    assert claim.value is None


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        struct.pack("=I", FRAME_BYTES + 1),
        framed(b"[]"),
        framed(b'{"status": 256}'),
        framed(b'{"status": -1}'),
        framed(b'{"status": "0"}'),
        framed(b'{"json": "1"}'),
        framed(b'{"status": 0, "json": 1}'),
    ],
)
def test_what_is_no_claim_breaks_the_reader_and_nothing_else(data: bytes) -> None:
    reader = read(data, framed(b'{"status": 0}'))
    assert reader.broken
    assert reader.claims == []


@given(st.lists(st.binary(max_size=64), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken_without_a_fault(parts: list[bytes]) -> None:
    for claim in read(*parts).claims:
        msgspec.json.encode(claim)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_claims_are_taken_without_a_fault() -> None:
    """SMOL_FUZZ_CASES says how many; `make sandbox-fuzz` takes a million."""
    chance = random.Random(20)
    seeds = [
        framed(b'{"status": 0, "json": "[1, {\\"a\\": null}]"}'),
        framed(b'{"status": 1, "repr": "<x>", "cut": false}'),
        framed(b'{"status": 0}') * 3,
        framed(json.dumps({"status": 0, "json": "[" * 70 + "]" * 70}).encode()),
    ]
    for _ in range(CASES):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(data))
            action = chance.randrange(3)
            if action == 0:
                data[place] = chance.randrange(256)
            elif action == 1:
                del data[place : place + chance.randrange(1, 8)]
                data += b" "
            else:
                data[place:place] = chance.choice((b"[", b"{", b'"', b"\\ud800", b"1e999", b"\x00\xff", b"9" * 30))
        cut = chance.randrange(len(data) + 1)
        reader = read(bytes(data[:cut]), bytes(data[cut:]))
        assert len(reader.claims) <= 3
        for claim in reader.claims:
            msgspec.json.encode(claim)
