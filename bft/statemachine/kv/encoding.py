"""How operations and results of the key-value service are written, for clients.  docs/key-value.md has the tables."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from bft.statemachine.kv.types import (
    RANGE_LIMIT_MAX,
    TTL_NS_MAX,
    TXN_COMPARES_MAX,
    TXN_OPERATIONS_MAX,
    CasResult,
    Compare,
    Delete,
    DeleteResult,
    Entry,
    Event,
    EventKind,
    Events,
    Get,
    Opcode,
    Put,
    Range,
    RangeResult,
    StoreStatus,
    TxnOperation,
    TxnPart,
    TxnResult,
)

# --- operations -------------------------------------------------------------------------------------------------------


def encode_put(key: bytes, value: bytes, ttl: float | None = None) -> bytes:
    """Ask to write `value`, to be removed after `ttl` seconds of the service's clock if that is given."""
    return _packed([Opcode.PUT, key, value] if ttl is None else [Opcode.PUT, key, value, ttl_ns(ttl)])


def encode_get(key: bytes) -> bytes:
    """Ask for the entry of `key`; also as a query."""
    return _packed([Opcode.GET, key])


def encode_delete(key: bytes) -> bytes:
    """Ask to remove `key`."""
    return _packed([Opcode.DELETE, key])


def encode_range(start: bytes = b"", end: bytes | None = None, limit: int = RANGE_LIMIT_MAX) -> bytes:
    """Ask for start <= key < end (None: to the last key), at most `limit` (1..1000) of them; also as a query."""
    return _packed([Opcode.RANGE, start, end, limit])


def encode_cas(key: bytes, expected: bytes | None, new: bytes | None, ttl: float | None = None) -> bytes:
    """Ask to replace `expected` by `new`; None is absence, so it also creates and deletes.  `ttl` as for a put."""
    operation = [Opcode.CAS, key, expected, new]
    return _packed(operation if ttl is None else [*operation, ttl_ns(ttl)])


def encode_txn(
    compares: Sequence[Compare], then: Sequence[TxnOperation] = (), otherwise: Sequence[TxnOperation] = ()
) -> bytes:
    """Ask to carry out `then` if all of `compares` hold, else `otherwise`, in one step; ValueError if too many."""
    if len(compares) > TXN_COMPARES_MAX or max(len(then), len(otherwise)) > TXN_OPERATIONS_MAX:
        raise ValueError(
            f"a transaction has at most {TXN_COMPARES_MAX} compares and {TXN_OPERATIONS_MAX} operations a branch"
        )
    conditions = [[c.target, c.relation, c.key, c.operand] for c in compares]
    return _packed([Opcode.TXN, conditions, [_part(o) for o in then], [_part(o) for o in otherwise]])


def encode_events(since: int, start: bytes = b"", end: bytes | None = None) -> bytes:
    """Ask for the events of revision `since` (from 1) and later of start <= key < end; also as a query."""
    return _packed([Opcode.EVENTS, since, start, end])


def encode_status() -> bytes:
    """Ask where the store stands; also as a query.  Ordered, it lets the service's clock go on, as all do."""
    return _packed([Opcode.STATUS])


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the end of the range of the keys that start with `prefix`; None: there is nothing behind them."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def ttl_ns(seconds: float) -> int:
    """Return a time to live as operations hold it; ValueError if it is none."""
    ns = round(seconds * 1e9) if seconds < TTL_NS_MAX else 0  # also refuses what is no number
    if not 1 <= ns <= TTL_NS_MAX:
        raise ValueError(f"a ttl is a number of seconds, above 0 and at most {TTL_NS_MAX // 10**9}")
    return ns


def _part(operation: TxnOperation) -> list[Any]:
    match operation:
        case Put(key, value, None):
            return [Opcode.PUT, key, value]
        case Put(key, value, float() | int() as ttl):
            return [Opcode.PUT, key, value, ttl_ns(ttl)]
        case Get(key):
            return [Opcode.GET, key]
        case Delete(key):
            return [Opcode.DELETE, key]
        case Range(start, end, limit):
            return [Opcode.RANGE, start, end, limit]
    raise TypeError(f"a transaction is made of Put, Get, Delete and Range, not {type(operation).__name__}")


# --- results ----------------------------------------------------------------------------------------------------------


def decode_put(result: bytes) -> int:
    """Return the revision of the write; ValueError if `result` is not a put's.  The others likewise."""
    return _revision_of(_unpacked(result))


def decode_get(result: bytes) -> Entry | None:
    """Return the entry, None if there is none; ValueError as above."""
    return _entry_of(_unpacked(result))


def decode_delete(result: bytes) -> DeleteResult:
    """Return what a delete did; ValueError as above."""
    return _deletion_of(_unpacked(result))


def decode_range(result: bytes) -> RangeResult:
    """Return the entries of a range; ValueError as above."""
    return _range_of(_unpacked(result))


def decode_cas(result: bytes) -> CasResult:
    """Return what a compare-and-swap did; ValueError as above."""
    match _unpacked(result):
        case [bool(swapped), int(revision), previous]:
            return CasResult(swapped, revision, _entry_of(previous))
    raise ValueError("not the result of a compare-and-swap")


def decode_txn(result: bytes, then: Sequence[TxnOperation] = (), otherwise: Sequence[TxnOperation] = ()) -> TxnResult:
    """Return what a transaction of these branches did; ValueError as above."""
    match _unpacked(result):
        case [bool(succeeded), list(parts), int(revision)]:
            branch = then if succeeded else otherwise
            if len(parts) == len(branch):
                results = [_PARTS[type(asked)](part) for asked, part in zip(branch, parts, strict=True)]
                return TxnResult(succeeded, tuple(results), revision)
    raise ValueError("not the result of this transaction")


def decode_events(result: bytes) -> Events | int:
    """Return the events, or, if they are no longer all known, the first revision that is; ValueError as above."""
    match _unpacked(result):
        case [list(events), int(following), bool(expiring)]:
            return Events(tuple([_event_of(event) for event in events]), following, expiring)
        case [int(oldest)]:
            return oldest
    raise ValueError("not an answer with events")


def decode_status(result: bytes) -> StoreStatus:
    """Return where the store stands; ValueError as above."""
    match _unpacked(result):
        case [int(revision), int(oldest), int(expiring)]:
            return StoreStatus(revision, oldest, expiring)
    raise ValueError("not the status of a key-value service")


def _revision_of(fields: object) -> int:
    if type(fields) is int:
        return fields
    raise ValueError("not the result of a put")


def _deletion_of(fields: object) -> DeleteResult:
    match fields:
        case [bool(deleted), int(revision)]:
            return DeleteResult(deleted, revision)
    raise ValueError("not the result of a delete")


def _range_of(fields: object) -> RangeResult:
    match fields:
        case [list(items), None | bytes() as following, int(revision)]:
            return RangeResult(tuple([_item_of(item) for item in items]), following, revision)
    raise ValueError("not the result of a range")


def _item_of(item: object) -> tuple[bytes, Entry]:
    match item:
        case [bytes(key), *fields]:
            entry = _entry_of(fields)
            if entry is not None:
                return key, entry
    raise ValueError("not an item of a range")


def _entry_of(fields: object) -> Entry | None:
    match fields:
        case None:
            return None
        case [int(mod_revision), int(create_revision), int(version), bytes(value)]:
            return Entry(value, mod_revision, create_revision, version)
        case [int(mod_revision), int(create_revision), int(version), bytes(value), int(expires_ns)]:
            return Entry(value, mod_revision, create_revision, version, expires_ns)
    raise ValueError("not an entry")


def _event_of(fields: object) -> Event:
    match fields:
        case [int(revision), EventKind.PUT, bytes(key), *entry]:
            return Event(revision, EventKind.PUT, key, _entry_of(entry))
        case [int(revision), int(kind), bytes(key)] if kind in _WITHOUT_ENTRY:
            return Event(revision, EventKind(kind), key, None)
    raise ValueError("not an event")


_WITHOUT_ENTRY: Final = frozenset({int(EventKind.DELETE), int(EventKind.EXPIRE)})
_PARTS: Final[dict[type, Callable[[object], TxnPart]]] = {
    Put: _revision_of,
    Get: _entry_of,
    Delete: _deletion_of,
    Range: _range_of,
}


def _unpacked(result: bytes) -> Any:
    try:
        return msgpack.unpackb(result)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("not a result of the key-value service") from error


def _packed(value: object) -> bytes:
    try:
        return bytes(msgpack.packb(value))
    except OverflowError as error:
        raise ValueError("numbers have at most 64 bits") from error
