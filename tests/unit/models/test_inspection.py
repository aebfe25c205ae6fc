from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.errors import InvalidArgument
from smol.models.inspection import check_onnx, kind_of


def field(number: int, content: bytes) -> bytes:
    """One length-delimited field of protobuf; numbers below 16, content below 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


OPSET = field(8, bytes([2 << 3, 17]))
TENSOR = field(1, b"\x03") + field(9, b"1234")
MODEL = field(7, field(5, TENSOR)) + OPSET


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD_WEIGHTS = safetensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234")


def test_the_operator_set_of_a_model_is_found() -> None:
    assert check_onnx(MODEL, "net.onnx") == 17
    assert kind_of(MODEL, "net.onnx") == "onnx"
    assert kind_of(GOOD_WEIGHTS, "net") == "safetensors"


@pytest.mark.parametrize(
    "tensor",
    [field(13, field(1, b"location") + field(2, b"../../etc/passwd")), bytes([14 << 3, 1])],
    ids=["path", "mark"],
)
@pytest.mark.parametrize("where", ["initializer", "attribute", "nested graph", "sparse"])
def test_a_reference_to_another_file_is_refused_wherever_it_hides(tensor: bytes, where: str) -> None:
    hidden = {
        "initializer": field(5, tensor),
        "attribute": field(1, field(5, field(5, tensor))),
        "nested graph": field(1, field(5, field(6, field(5, tensor)))),
        "sparse": field(15, field(1, tensor)),
    }[where]
    with pytest.raises(InvalidArgument, match="never followed"):
        check_onnx(field(7, hidden) + OPSET, "net.onnx")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (MODEL[:-3], "cut off"),
        (b"hello, world", "no ONNX model"),
        (field(7, b""), "no operator set"),
        (OPSET, "no graph"),
        (field(7, b"") + field(8, bytes([2 << 3, 99])), "operator set 99"),
        (b"\xff" * 20, "number is too long"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        check_onnx(data, "net.onnx")


def test_graphs_within_graphs_have_an_end() -> None:
    def long_field(number: int, content: bytes) -> bytes:
        size, length = b"", len(content)
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    graph = b""
    for _ in range(50):
        graph = long_field(1, long_field(5, long_field(6, graph)))
    with pytest.raises(InvalidArgument, match="deep"):
        check_onnx(long_field(7, graph) + OPSET, "net.onnx")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty"),
        (b"PK\x03\x04rest", "could run code"),
        (b"\x80\x04\x95rest", "could run code"),
        (b"\x1f\x8brest", "compressed"),
        (b"GGUF", "GGUF"),
        (GOOD_WEIGHTS[:-1], "cut off"),
        (b"\xff" * 7 + b"\x00{", "cut off"),
        (safetensors({}), "it has no tensors"),
        (safetensors({"__metadata__": {"of": "nothing"}}), "it has no tensors"),
        (len(b'{"a":' * 50_000).to_bytes(8, "little") + b'{"a":' * 50_000, "nested too deep"),
        (safetensors({"w": {"data_offsets": "x"}}), "no safetensors"),
    ],
)
def test_other_and_damaged_files_are_refused_saying_what_they_are(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        kind_of(data, "file")


@given(st.binary(max_size=200))
def test_no_bytes_bring_the_inspection_down(data: bytes) -> None:
    for look in (kind_of, check_onnx):
        try:
            look(data, "file")
        except InvalidArgument:
            continue
