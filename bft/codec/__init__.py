"""Messages to bytes and back; docs/protocol.md describes the format.  Everything that fails is an InvalidMessage."""

from bft.codec.frames import (
    PROTOCOL_VERSION,
    FrameMessage,
    Hello,
    Proof,
    Prove,
    Query,
    QueryAnswer,
    Watch,
    decode_body,
    encode_body,
    encode_frame,
)
from bft.codec.limits import Limits
from bft.codec.splitter import FrameSplitter
from bft.codec.statements import Claim, Decoded, decode_payload, encode_payload, message_type
from bft.codec.wire import MessageType

__all__ = [
    "PROTOCOL_VERSION",
    "Claim",
    "Decoded",
    "FrameMessage",
    "FrameSplitter",
    "Hello",
    "Limits",
    "MessageType",
    "Proof",
    "Prove",
    "Query",
    "QueryAnswer",
    "Watch",
    "decode_body",
    "decode_payload",
    "encode_body",
    "encode_frame",
    "encode_payload",
    "message_type",
]
