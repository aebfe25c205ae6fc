"""What is in a model file, found without running, unpickling or trusting any of it.

Reads just enough of the protobuf encoding of ONNX to tell its operator set and whether it refers to
other files. Covers no execution: whether the model loads is tried by the caller, in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from smol.errors import InvalidArgument

__all__ = ["FileKind", "check_onnx", "kind_of"]

FileKind = Literal["onnx", "safetensors"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32
_MAX_HEADER_BYTES = 16 * 2**20
_NEWEST_OPSET = 30

# Messages of onnx.proto3 with the fields that lead to tensors: field number -> message.
_CHILDREN = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _OPSET_IMPORT = 13, 14, 8


class _Field(NamedTuple):
    number: int
    value: int | memoryview


def kind_of(data: bytes, name: str) -> FileKind:
    """ONNX or safetensors, told by content. Raises InvalidArgument for anything else, saying what it is."""
    if not data:
        raise InvalidArgument(f"{name} is empty (0 bytes)")
    if data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":
        raise InvalidArgument(
            f"{name} is a pickle or a zip archive, such as torch.save makes: loading it could run code, so "
            "it is not opened; save the weights as safetensors, or export the model to ONNX"
        )
    if data[:2] == b"\x1f\x8b" or data[:4] == b"GGUF":
        raise InvalidArgument(f"{name} is compressed or GGUF; only ONNX and safetensors can be imported")
    if data[8:9] == b"{":
        _check_safetensors(data, name)
        return "safetensors"
    return "onnx"


def check_onnx(data: bytes, name: str) -> int:
    """The version of the standard operators. Raises InvalidArgument for damage, other files, unknown operators."""
    try:
        fields = list(_fields(memoryview(data)))
        opsets = [_opset(field.value) for field in fields if field.number == _OPSET_IMPORT]
        external = _refers_elsewhere(memoryview(data), "model", 0)
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{name} is no ONNX model, or was cut off: {error}") from None
    if external:
        raise InvalidArgument(
            f"{name} keeps its weights in other files, which are never followed; "
            "save it again as one file (onnx.save with save_as_external_data=False)"
        )
    versions = [version for domain, version in opsets if domain in ("", "ai.onnx")]
    if not versions or not any(field.number == 7 for field in fields):
        raise InvalidArgument(f"{name} is no ONNX model: it has no graph or no operator set")
    if not 7 <= versions[0] <= _NEWEST_OPSET:
        raise InvalidArgument(f"{name} uses operator set {versions[0]}; 7 to {_NEWEST_OPSET} are known")
    return versions[0]


def _check_safetensors(data: bytes, name: str) -> None:
    length = int.from_bytes(data[:8], "little")
    if length > min(_MAX_HEADER_BYTES, len(data) - 8):
        raise InvalidArgument(f"{name} tells a header of {length} bytes and has {len(data)}: it was cut off")
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
        if not ends:
            raise ValueError("it has no tensors")
        complete = max(ends) == len(data) - 8 - length
    except RecursionError:
        raise InvalidArgument(f"{name} is no safetensors file: its header is nested too deep") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidArgument(f"{name} is no safetensors file: {error!r}") from None
    if not complete:
        raise InvalidArgument(f"{name} is cut off: its tensors need {max(ends)} bytes after the header")


def _refers_elsewhere(data: memoryview, message: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
    children = _CHILDREN[message]
    for number, value in _fields(data):
        if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1)):
            return True
        child = children.get(number)
        if child is not None and isinstance(value, memoryview) and _refers_elsewhere(value, child, depth + 1):
            return True
    return False


def _opset(value: int | memoryview) -> tuple[str, int]:
    if not isinstance(value, memoryview):
        raise ValueError("the operator set is no message")
    domain, version = "", 0
    for number, each in _fields(value):
        if number == 1 and isinstance(each, memoryview):
            domain = bytes(each).decode()
        elif number == 2 and isinstance(each, int):
            version = each
    return domain, version


def _fields(data: memoryview) -> Iterator[_Field]:
    """The fields of one message. Raises ValueError when it ends early or is no message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"a field without a number at byte {at}")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield _Field(number, value)
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"an unknown wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes where {len(data) - at} are left")
        yield _Field(number, data[at : at + size])
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
