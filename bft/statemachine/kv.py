"""The built-in service: a key-value store with compare-and-swap, and the encoding that clients share with it.

Operations are MessagePack arrays `[opcode, argument, ...]`:

    [1, key, value]              put      -> revision
    [2, key]                     get      -> nil | [mod_revision, create_revision, version, value]
    [3, key]                     delete   -> [deleted, revision]
    [4, start, end|nil, limit]   range    -> [[[key, mod_revision, create_revision, version, value], ...], more]
    [5, key, expected|nil, new|nil]  compare-and-swap -> [swapped, revision, entry found before, as for get]

Keys and values are bin.  A revision is the number of the operation in the agreed order, so it grows with each write and
costs no state of its own; where nothing was written it is 0.  In the store, `k` and a key lead to an entry: format (1
byte, 1), mod_revision, create_revision, version (8 bytes each, big-endian), value.  Other first bytes are free.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any, Final

import msgpack

from bft.statemachine.api import ApplicationError, Context, ReadContext, ReadStore, StateMachine

KEY_BYTES_MAX: Final = 2048
VALUE_BYTES_MAX: Final = 1_000_000  # with a key and the framing this is less than RANGE_BYTES_MAX
RANGE_LIMIT_MAX: Final = 1000
RANGE_BYTES_MAX: Final = 1 << 20
_ITEM_OVERHEAD_BYTES: Final = 48  # of an item in a range result, at most
_TABLE: Final = b"k"
_TABLE_END: Final = b"l"
_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BQQQ")
_HEADER_BYTES: Final = _HEADER.size


@unique
class Opcode(IntEnum):
    """First element of an operation."""

    PUT = 1
    GET = 2
    DELETE = 3
    RANGE = 4
    CAS = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """What is held for a key: `version` counts its writes since it was created."""

    value: bytes
    mod_revision: int
    create_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """Whether there was something to delete, and the revision of the deletion (0 if not)."""

    deleted: bool
    revision: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """Entries in key order; `more` if the limit or the result's size ended the range early."""

    items: tuple[tuple[bytes, Entry], ...]
    more: bool


@dataclass(frozen=True, slots=True)
class CasResult:
    """Whether the key held what was expected, the revision of the write (0 if none), and what it held before."""

    swapped: bool
    revision: int
    previous: Entry | None


# --- for clients: operations out, results in --------------------------------------------------------------------------


def encode_put(key: bytes, value: bytes) -> bytes:
    """Ask to write `value`."""
    return _packed([Opcode.PUT, key, value])


def encode_get(key: bytes) -> bytes:
    """Ask for the entry of `key`; also as a query."""
    return _packed([Opcode.GET, key])


def encode_delete(key: bytes) -> bytes:
    """Ask to remove `key`."""
    return _packed([Opcode.DELETE, key])


def encode_range(start: bytes = b"", end: bytes | None = None, limit: int = RANGE_LIMIT_MAX) -> bytes:
    """Ask for start <= key < end (None: to the last key), at most `limit` (1..1000) of them; also as a query."""
    return _packed([Opcode.RANGE, start, end, limit])


def encode_cas(key: bytes, expected: bytes | None, new: bytes | None) -> bytes:
    """Ask to replace `expected` by `new`; None is absence, so it also creates and deletes."""
    return _packed([Opcode.CAS, key, expected, new])


def decode_put(result: bytes) -> int:
    """Return the revision of the write; ValueError if `result` is not a put's.  The others likewise."""
    revision: object = _unpacked(result)
    if type(revision) is not int:
        raise ValueError("not the result of a put")
    return revision


def decode_get(result: bytes) -> Entry | None:
    """Return the entry, None if there is none; ValueError as above."""
    return _entry_of(_unpacked(result))


def decode_delete(result: bytes) -> DeleteResult:
    """Return what a delete did; ValueError as above."""
    match _unpacked(result):
        case [bool(deleted), int(revision)]:
            return DeleteResult(deleted, revision)
    raise ValueError("not the result of a delete")


def decode_range(result: bytes) -> RangeResult:
    """Return the entries of a range; ValueError as above."""
    match _unpacked(result):
        case [list(items), bool(more)]:
            return RangeResult(tuple(_item_of(item) for item in items), more)
    raise ValueError("not the result of a range")


def decode_cas(result: bytes) -> CasResult:
    """Return what a compare-and-swap did; ValueError as above."""
    match _unpacked(result):
        case [bool(swapped), int(revision), previous]:
            return CasResult(swapped, revision, _entry_of(previous))
    raise ValueError("not the result of a compare-and-swap")


def stored_key(key: bytes) -> bytes:
    """Return the service's store key of `key`, for proofs."""
    return _TABLE + key


def decode_entry(stored: bytes) -> Entry:
    """Return the entry that a proof shows to be in the store; ValueError if it is none."""
    if len(stored) < _HEADER_BYTES or stored[0] != _FORMAT:
        raise ValueError("not a stored entry")
    _, mod_revision, create_revision, version = _HEADER.unpack_from(stored)
    return Entry(stored[_HEADER_BYTES:], mod_revision, create_revision, version)


def _unpacked(result: bytes) -> Any:
    try:
        return msgpack.unpackb(result)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("not a result of the key-value service") from error


def _item_of(item: object) -> tuple[bytes, Entry]:
    match item:
        case [bytes(key), int(mod_revision), int(create_revision), int(version), bytes(value)]:
            return key, Entry(value, mod_revision, create_revision, version)
    raise ValueError("not an item of a range")


def _entry_of(fields: object) -> Entry | None:
    match fields:
        case None:
            return None
        case [int(mod_revision), int(create_revision), int(version), bytes(value)]:
            return Entry(value, mod_revision, create_revision, version)
    raise ValueError("not an entry")


# --- the service ------------------------------------------------------------------------------------------------------


class KeyValue(StateMachine):
    """The built-in service; all its state is in the store."""

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        match _decode_operation(operation):
            case (Opcode.PUT, bytes(key), bytes(value)):
                return _put(ctx, key, value)
            case (Opcode.DELETE, bytes(key)):
                deleted = ctx.store.delete(_TABLE + key)
                return _packed([deleted, ctx.revision if deleted else 0])
            case (Opcode.CAS, bytes(key), expected, new):
                return _compare_and_swap(ctx, key, expected, new)
            case decoded:
                return _read(ctx.store, decoded)

    def query(self, ctx: ReadContext, operation: bytes) -> bytes:
        return _read(ctx.store, _decode_operation(operation))


def _decode_operation(operation: bytes) -> tuple[Any, ...]:
    try:
        decoded = msgpack.unpackb(
            operation,
            use_list=False,
            max_array_len=4,
            max_map_len=0,
            max_str_len=0,
            max_ext_len=0,
            max_bin_len=VALUE_BYTES_MAX,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ApplicationError("bad_operation", "not an operation of the key-value service") from error
    # `True` and `1.0` equal the opcode 1.
    if type(decoded) is not tuple or not decoded or type(decoded[0]) is not int:
        raise ApplicationError("bad_operation", "not an operation of the key-value service")
    return decoded


def _read(store: ReadStore, decoded: tuple[Any, ...]) -> bytes:
    match decoded:
        case (Opcode.GET, bytes(key)):
            return _packed(_fields(store.get(_TABLE + key)))
        case (Opcode.RANGE, bytes(start), None | bytes() as end, int(limit)):
            return _range(store, start, end, limit)
    raise ApplicationError("bad_operation", "not an operation of the key-value service, or not one for here")


def _put(ctx: Context, key: bytes, value: bytes) -> bytes:
    _write(ctx, key, value, ctx.store.get(_TABLE + key))
    return _packed(ctx.revision)


def _compare_and_swap(ctx: Context, key: bytes, expected: object, new: object) -> bytes:
    if not isinstance(expected, bytes | None) or not isinstance(new, bytes | None):
        raise ApplicationError("bad_operation", "compare-and-swap takes bytes or nil")
    held = ctx.store.get(_TABLE + key)
    if expected != (None if held is None else held[_HEADER_BYTES:]):
        return _packed([False, 0, _fields(held)])
    if new is not None:
        _write(ctx, key, new, held)
    elif not ctx.store.delete(_TABLE + key):
        return _packed([True, 0, None])
    return _packed([True, ctx.revision, _fields(held)])


def _range(store: ReadStore, start: bytes, end: bytes | None, limit: int) -> bytes:
    if type(limit) is not int or not 1 <= limit <= RANGE_LIMIT_MAX:
        raise ApplicationError("bad_operation", f"a range's limit is 1..{RANGE_LIMIT_MAX}")
    items: list[tuple[Any, ...]] = []
    size = 0
    for key, stored in _table_range(store, start, end):
        size += len(key) + len(stored) + _ITEM_OVERHEAD_BYTES
        if len(items) == limit or (items and size > RANGE_BYTES_MAX):
            return _packed([items, True])
        items.append((key, *_HEADER.unpack_from(stored)[1:], stored[_HEADER_BYTES:]))
    return _packed([items, False])


def _table_range(store: ReadStore, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    for key, stored in store.range(_TABLE + start, _TABLE_END if end is None else _TABLE + end):
        yield key[len(_TABLE) :], stored


def _write(ctx: Context, key: bytes, value: bytes, held: bytes | None) -> None:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ApplicationError("bad_key", f"a key is 1..{KEY_BYTES_MAX} bytes")
    if len(value) > VALUE_BYTES_MAX:
        raise ApplicationError("bad_value", f"a value is at most {VALUE_BYTES_MAX} bytes")
    revision = ctx.revision
    if held is None:
        header = _HEADER.pack(_FORMAT, revision, revision, 1)
    else:
        _, _, create_revision, version = _HEADER.unpack_from(held)
        header = _HEADER.pack(_FORMAT, revision, create_revision, version + 1)
    ctx.store.put(_TABLE + key, header + value)


def _fields(stored: bytes | None) -> tuple[Any, ...] | None:
    return None if stored is None else (*_HEADER.unpack_from(stored)[1:], stored[_HEADER_BYTES:])


def _packed(value: object) -> bytes:
    return bytes(msgpack.packb(value))
