"""Canonical MessagePack: every value has one encoding, and only that one is read.

The subset: arrays, unsigned integers below 2**64, bytes (bin), text (str, UTF-8) and booleans, each in its shortest
form; no maps, floats, nil, negative numbers or extensions.  The writer only ever produces the shortest form; the reader
encodes again what it read and requires equality, which proves canonical form whatever the library accepts.

Nothing is allocated for a length that a hostile writer merely claims: the bytes must be there, and an array's length
is bounded before its slots are made.  The number of arrays is bounded too: nested ones cost two bytes each to write and
some seventy, with the time to make them, to read.
"""

from enum import IntEnum, unique
from typing import Any, Final

from msgpack import UnpackException, packb, unpackb

from bft.errors import InvalidMessage

TEXT_BYTES_MAX: Final = 1024
ARRAYS_MIN: Final = 16  # arrays that any message may have, whatever it holds


@unique
class MessageType(IntEnum):
    """The number of each message: a frame's type and, up to 8, the kind bound into the signature."""

    REQUEST = 1
    PRE_PREPARE = 2  # never a frame of its own: it travels in PROPOSAL
    PREPARE = 3
    COMMIT = 4
    CHECKPOINT = 5
    VIEW_CHANGE = 6
    NEW_VIEW = 7
    BATCH_RESULT = 8  # never a frame of its own: it travels in REPLY
    PROPOSAL = 16
    EVIDENCE = 17
    STATUS = 18
    FETCH_BATCHES = 19
    BATCHES = 20
    FETCH_BODIES = 21
    BODIES = 22
    STABLE_CHECKPOINT = 23
    FETCH_STATE = 24
    STATE_CHUNK = 25
    QUERY_STABLE = 26
    REPLY_STABLE = 27
    REPLY = 32
    REFUSAL = 33
    HELLO = 48
    QUERY = 49
    QUERY_ANSWER = 50
    WATCH = 51
    PROVE = 52
    PROOF = 53


def pack(value: tuple[Any, ...]) -> bytes:
    """The one encoding of `value`, made of tuples, ints, bytes, str and bool.

    OverflowError or TypeError for anything else is the caller's bug.
    """
    encoded: bytes = packb(value)
    return encoded


def unpack(data: bytes, *, fields: int, array_max: int, arrays_max: int | None = None) -> tuple[Any, ...]:
    """The array of exactly `fields` fields that `data` encodes, no array in it longer than `array_max`.

    There are at most `arrays_max` arrays; unless said otherwise as many as one array of arrays needs, and some more.
    The types of the fields are for the functions below to check.
    """
    left = array_max + ARRAYS_MIN if arrays_max is None else arrays_max

    def count(items: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many arrays")
        return items

    try:
        value = unpackb(
            data,
            use_list=False,
            list_hook=count,
            max_array_len=array_max,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=TEXT_BYTES_MAX,
        )
    except (ValueError, UnpackException) as error:
        raise InvalidMessage(f"not MessagePack within the limits: {error}") from error
    if type(value) is not tuple or len(value) != fields:
        raise InvalidMessage(f"not an array of {fields} fields")
    try:
        canonical = packb(value) == data
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidMessage("a value that has no place in any message") from error
    if not canonical:
        raise InvalidMessage("not the canonical encoding")
    return value


def array(value: Any, name: str, *, at_most: int, at_least: int = 0) -> tuple[Any, ...]:
    """`value`, an array with a permitted number of items."""
    if type(value) is not tuple:
        raise InvalidMessage(f"{name} is not an array")
    if not at_least <= len(value) <= at_most:
        raise InvalidMessage(f"{name} has {len(value)} items, not {at_least} to {at_most}")
    return value


def fields_of(value: Any, name: str, count: int) -> tuple[Any, ...]:
    """`value`, a nested array of exactly `count` fields."""
    if type(value) is not tuple or len(value) != count:
        raise InvalidMessage(f"{name} is not an array of {count} fields")
    return value


def natural(value: Any, name: str) -> int:
    """`value`, an unsigned integer; MessagePack has none from 2**64 on.  A boolean is no integer."""
    if type(value) is not int or value < 0:
        raise InvalidMessage(f"{name} is not an unsigned integer")
    return value


def flag(value: Any, name: str) -> bool:
    """`value`, a boolean and no integer."""
    if type(value) is not bool:
        raise InvalidMessage(f"{name} is not a boolean")
    return value


def fixed(value: Any, name: str, size: int) -> bytes:
    """`value`, exactly `size` bytes."""
    if type(value) is not bytes or len(value) != size:
        raise InvalidMessage(f"{name} is not {size} bytes")
    return value


def digest(value: Any, name: str) -> bytes:
    """`value`, a SHA-256 digest."""
    return fixed(value, name, 32)


def blob(value: Any, name: str, at_most: int) -> bytes:
    """`value`, bytes of a permitted length."""
    if type(value) is not bytes:
        raise InvalidMessage(f"{name} is not bytes")
    if len(value) > at_most:
        raise InvalidMessage(f"{name} has {len(value)} bytes, more than {at_most}")
    return value


def text(value: Any, name: str, at_most: int) -> str:
    """`value`, text of a permitted length in UTF-8."""
    if type(value) is not str:
        raise InvalidMessage(f"{name} is not text")
    if len(value.encode()) > at_most:
        raise InvalidMessage(f"{name} is longer than {at_most} bytes")
    return value
