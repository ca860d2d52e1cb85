"""The encoding of an operation's result: `0x00 value`, or `0x01` and MessagePack `[code, message]`."""

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from bft.statemachine.api import CODE_LENGTH_MAX, MESSAGE_LENGTH_MAX

_OK: Final = b"\x00"
_ERROR: Final = b"\x01"
_UTF8_BYTES_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Ok:
    """The operation took effect; `value` is what the service returned."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Error:
    """The operation was refused and changed nothing."""

    code: str
    message: str


def encode_ok(value: bytes) -> bytes:
    """Return the result of an operation that took effect."""
    return _OK + value


def encode_error(code: str, message: str) -> bytes:
    """Return the result of a refused operation; limits on both as for `ApplicationError`."""
    return _ERROR + bytes(msgpack.packb([code, message]))


def decode_result(encoded: bytes) -> Ok | Error:
    """Return what `encoded` holds; ValueError if it is no encoded result."""
    kind = encoded[:1]
    if kind == _OK:
        return Ok(encoded[1:])
    if kind == _ERROR:
        match _unpacked(encoded[1:]):
            case [str(code), str(message)]:
                return Error(code, message)
    raise ValueError("not an encoded result")


def _unpacked(error: bytes) -> Any:
    try:
        return msgpack.unpackb(
            error,
            max_array_len=2,
            max_map_len=0,
            max_bin_len=0,
            max_ext_len=0,
            max_str_len=max(CODE_LENGTH_MAX, MESSAGE_LENGTH_MAX) * _UTF8_BYTES_MAX,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as malformed:
        raise ValueError("not an encoded error result") from malformed
