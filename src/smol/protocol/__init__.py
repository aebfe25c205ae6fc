"""What two languages must agree on: frames, messages and their legal order. Sans I/O."""

from smol.protocol.frames import Buffer, Frame, FrameDecoder, Limits, encode_frame
from smol.protocol.messages import PROTOCOL_VERSION
from smol.protocol.payload import decode_payload, encode_payload, split_body
from smol.protocol.session import Role, Session, State

__all__ = [
    "PROTOCOL_VERSION",
    "Buffer",
    "Frame",
    "FrameDecoder",
    "Limits",
    "Role",
    "Session",
    "State",
    "decode_payload",
    "encode_frame",
    "encode_payload",
    "split_body",
]
