"""The built-in service: decodes an operation, carries it out, keeps its events."""

from collections.abc import Callable
from typing import Any, Final

import msgpack

from bft.statemachine.api import ApplicationError, Context, Poll, ReadContext, StateMachine
from bft.statemachine.kv import history
from bft.statemachine.kv.table import TABLE, Edit, Fields, View, fields_of, value_offset
from bft.statemachine.kv.types import (
    KEY_BYTES_MAX,
    RANGE_BYTES_MAX,
    RANGE_LIMIT_MAX,
    TTL_NS_MAX,
    TXN_COMPARES_MAX,
    TXN_OPERATIONS_MAX,
    TXN_RESULT_BYTES_MAX,
    EventKind,
    Opcode,
    Relation,
    Target,
)

HISTORY_REVISIONS: Final = 10_000
HISTORY_BYTES: Final = 32 << 20
CLOCK_ADVANCE_MAX_MS: Final = 10_000
_ITEM_OVERHEAD_BYTES: Final = 64  # of an item in a range result, at most
_EXPIRED_SEEN_MAX: Final = 1000  # entries that have expired and that a range passes over
_FLAT_ARRAY_MAX: Final = 5
_TXN_ARRAYS_MAX: Final = 4 + TXN_COMPARES_MAX + 2 * TXN_OPERATIONS_MAX
_TXN_HEAD: Final = bytes((0x90 | 4, Opcode.TXN))
_PUT: Final = int(Opcode.PUT)
_PLAIN_PUT: Final = [bytes, bytes]


class KeyValue(StateMachine):
    """The built-in service; all its state is in the store.

    The events of at least `history_revisions` revisions are kept for watches, or, if those are larger than
    `history_bytes`, fewer.  `clock_advance_max_ms` bounds how far the clock by which keys expire goes from one batch to
    the next.  ValueError for options that cannot work.
    """

    def __init__(
        self,
        *,
        history_revisions: int = HISTORY_REVISIONS,
        history_bytes: int = HISTORY_BYTES,
        clock_advance_max_ms: int = CLOCK_ADVANCE_MAX_MS,
    ) -> None:
        if min(history_revisions, history_bytes, clock_advance_max_ms) < 1:
            raise ValueError("history_revisions, history_bytes and clock_advance_max_ms must be positive")
        self._history: Final = history.History(history_revisions, history_bytes)
        self._clock_advance_max_ns: Final = clock_advance_max_ms * 1_000_000

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        opcode, *arguments = _decode(operation)
        edit = Edit(ctx, self._clock_advance_max_ns)
        result: Any
        if opcode == _PUT and [*map(type, arguments)] == _PLAIN_PUT:  # the most frequent by far, the short way
            edit.put(*arguments)
            result = ctx.revision
        elif (write := _WRITES.get(opcode)) is not None:
            result = write(edit, *_fitting(opcode, arguments))
        else:
            result = _read(edit, opcode, arguments)
        edit.close()
        if edit.events:
            self._history.append(ctx.store, ctx.revision, edit.events)
        packed: bytes = msgpack.packb(result)
        return packed

    def query(self, ctx: ReadContext, operation: bytes) -> bytes:
        opcode, *arguments = _decode(operation)
        packed: bytes = msgpack.packb(_read(self._view(ctx), opcode, arguments))
        return packed

    def poll(self, ctx: ReadContext, operation: bytes) -> Poll:
        """As `query`; to a question for events that did not happen yet there is a better answer later."""
        opcode, *arguments = _decode(operation)
        result = _read(self._view(ctx), opcode, arguments)
        later = None
        if opcode == Opcode.EVENTS and len(result) > 1:
            events, following, _ = result
            if not events and following > history.extent_of(ctx.store).last:
                later = msgpack.packb([Opcode.EVENTS, following, *arguments[1:]])
        return Poll(msgpack.packb(result), later)

    def provable(self, key: bytes) -> bool:
        """Entries; every client may read all of them anyway."""
        return key.startswith(TABLE)

    def _view(self, ctx: ReadContext) -> View:
        return View(ctx.store, ctx.time_ns, self._clock_advance_max_ns)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _decode(operation: bytes) -> tuple[Any, ...]:
    """The elements of an operation, at least one; the first is an int."""
    try:
        if operation[:2] == _TXN_HEAD:
            decoded = _unpack_txn(operation)
        else:
            decoded = msgpack.unpackb(
                operation,
                use_list=False,
                max_array_len=_FLAT_ARRAY_MAX,
                max_map_len=0,
                max_str_len=0,
                max_ext_len=0,
            )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ApplicationError("bad_operation", "not an operation of the key-value service") from error
    # `True` and `1.0` equal the opcode 1.
    if type(decoded) is not tuple or not decoded or type(decoded[0]) is not int:
        raise ApplicationError("bad_operation", "not an operation of the key-value service")
    return decoded


def _unpack_txn(operation: bytes) -> Any:
    left = _TXN_ARRAYS_MAX

    def count(items: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many arrays")
        return items

    return msgpack.unpackb(
        operation,
        use_list=False,
        list_hook=count,
        max_array_len=max(TXN_COMPARES_MAX, TXN_OPERATIONS_MAX),
        max_map_len=0,
        max_str_len=0,
        max_ext_len=0,
    )


_Types = frozenset[type]
_BYTES: Final[_Types] = frozenset({bytes})
_BYTES_OR_NIL: Final[_Types] = frozenset({bytes, type(None)})
_INT: Final[_Types] = frozenset({int})
_ARRAY: Final[_Types] = frozenset({tuple})
_FORMS: Final[dict[int, tuple[int, tuple[_Types, ...]]]] = {  # arguments: how many at least, their types
    Opcode.PUT: (2, (_BYTES, _BYTES, _INT)),
    Opcode.GET: (1, (_BYTES,)),
    Opcode.DELETE: (1, (_BYTES,)),
    Opcode.RANGE: (3, (_BYTES, _BYTES_OR_NIL, _INT)),
    Opcode.CAS: (3, (_BYTES, _BYTES_OR_NIL, _BYTES_OR_NIL, _INT)),
    Opcode.TXN: (3, (_ARRAY, _ARRAY, _ARRAY)),
    Opcode.EVENTS: (3, (_INT, _BYTES, _BYTES_OR_NIL)),
    Opcode.STATUS: (0, ()),
}


def _fitting(opcode: int, arguments: list[Any]) -> list[Any]:
    """The arguments, if an operation of this kind has such."""
    least, types = _FORMS[opcode]
    if least <= len(arguments) <= len(types):
        for argument, allowed in zip(arguments, types, strict=False):
            if type(argument) not in allowed:
                break
        else:
            return arguments
    raise ApplicationError("bad_operation", f"not what a {Opcode(opcode).name.lower()} of the key-value service takes")


# --- reads ------------------------------------------------------------------------------------------------------------


def _read(view: View, opcode: int, arguments: list[Any]) -> Any:
    read = _READS.get(opcode)
    if read is None:
        raise ApplicationError("bad_operation", "not an operation of the key-value service, or not one for here")
    return read(view, *_fitting(opcode, arguments))


def _get(view: View, key: bytes) -> Fields | None:
    stored = view.get(key)
    return None if stored is None else fields_of(stored)


def _range(view: View, start: bytes, end: bytes | None, limit: int) -> tuple[Any, ...]:
    if not 1 <= limit <= RANGE_LIMIT_MAX:
        raise ApplicationError("bad_operation", f"a range's limit is 1..{RANGE_LIMIT_MAX}, not {limit}")
    items: list[tuple[Any, ...]] = []
    size = expired = 0
    following = None
    for key, stored in view.range(start, end):
        if stored is None:
            expired += 1
            if expired <= _EXPIRED_SEEN_MAX:
                continue
        else:
            size += len(key) + len(stored) + _ITEM_OVERHEAD_BYTES
        if stored is None or len(items) == limit or (items and size > RANGE_BYTES_MAX):
            following = key
            break
        items.append((key, *fields_of(stored)))
    return items, following, history.extent_of(view.store).last


def _events(view: View, since: int, start: bytes, end: bytes | None) -> tuple[Any, ...]:
    if since < 1 or len(start) > KEY_BYTES_MAX or (end is not None and len(end) > KEY_BYTES_MAX):
        raise ApplicationError("bad_operation", "events are asked for since a revision above 0, of a range of keys")
    try:
        found = history.find(view.store, since, start, end)
    except history.Compacted as error:
        return (error.args[0],)
    events = [_event(revision, key, stored) for revision, key, stored in found.events]
    return events, found.next, view.expiring > 0


def _event(revision: int, key: bytes, stored: bytes) -> tuple[Any, ...]:
    if stored == history.DELETED:
        return revision, EventKind.DELETE, key
    if stored == history.EXPIRED:
        return revision, EventKind.EXPIRE, key
    return revision, EventKind.PUT, key, *fields_of(stored)


def _status(view: View) -> tuple[int, int, int]:
    last, compacted = history.extent_of(view.store)
    return last, compacted + 1, view.expiring


# --- writes -----------------------------------------------------------------------------------------------------------


def _put(edit: Edit, key: bytes, value: bytes, ttl_ns: int | None = None) -> int:
    edit.put(key, value, ttl_ns if ttl_ns is None else _ttl(ttl_ns))
    return edit.revision


def _delete(edit: Edit, key: bytes) -> tuple[bool, int]:
    deleted = edit.delete(key)
    return deleted, edit.revision if deleted else 0


def _compare_and_swap(
    edit: Edit, key: bytes, expected: bytes | None, new: bytes | None, ttl_ns: int | None = None
) -> tuple[bool, int, Fields | None]:
    stored = edit.get(key)
    held = None if stored is None else fields_of(stored)
    if expected != (None if held is None else held[3]):
        return False, 0, held
    if new is not None:
        edit.put(key, new, ttl_ns if ttl_ns is None else _ttl(ttl_ns))
    elif not edit.delete(key):
        return True, 0, None
    return True, edit.revision, held


def _ttl(ttl_ns: int) -> int:
    if not 1 <= ttl_ns <= TTL_NS_MAX:
        raise ApplicationError("bad_ttl", f"a ttl is 1..{TTL_NS_MAX} ns")
    return ttl_ns


def _transaction(
    edit: Edit, compares: tuple[Any, ...], then: tuple[Any, ...], otherwise: tuple[Any, ...]
) -> tuple[bool, list[Any], int]:
    if len(compares) > TXN_COMPARES_MAX or max(len(then), len(otherwise)) > TXN_OPERATIONS_MAX:
        raise ApplicationError(
            "bad_transaction",
            f"a transaction has at most {TXN_COMPARES_MAX} compares and {TXN_OPERATIONS_MAX} operations a branch",
        )
    # All of it is judged, whichever branch is taken: a mistake must not wait for the day when the other one is.
    conditions = [_condition(compare) for compare in compares]
    branches = [[_part(operation) for operation in branch] for branch in (then, otherwise)]
    succeeded = all(_holds(edit, *condition) for condition in conditions)
    changes = len(edit.events)
    results = []
    room = TXN_RESULT_BYTES_MAX
    for opcode, arguments in branches[0 if succeeded else 1]:
        write = _TXN_WRITES.get(opcode)
        result = _TXN_READS[opcode](edit, *arguments) if write is None else write(edit, *arguments)
        room -= _size_of(opcode, result)
        if room < 0:
            raise ApplicationError("result_too_large", f"a transaction reads at most {TXN_RESULT_BYTES_MAX} bytes")
        results.append(result)
    return succeeded, results, edit.revision if len(edit.events) > changes else 0


def _condition(compare: Any) -> tuple[int, int, bytes, bytes | int | None]:
    match compare:
        case (int(target), int(relation), bytes(key), operand) if target in _TARGETS and relation in _RELATIONS:
            if type(operand) in (_BYTES_OR_NIL if target == Target.VALUE else _INT):
                return target, relation, key, operand
    raise ApplicationError("bad_transaction", "a compare is a target, a relation, a key and what to compare with")


def _part(operation: object) -> tuple[int, list[Any]]:
    if type(operation) is tuple and operation and type(operation[0]) is int:
        opcode, *arguments = operation
        if opcode in _TXN_WRITES or opcode in _TXN_READS:
            return opcode, _fitting(opcode, arguments)
    raise ApplicationError("bad_transaction", "a transaction is made of puts, gets, deletes and ranges")


def _holds(view: View, target: int, relation: int, key: bytes, operand: Any) -> bool:
    stored = view.get(key)
    held: Any
    if target == Target.VALUE:
        held = None if stored is None else stored[value_offset(stored) :]
    else:
        held = 0 if stored is None else _NUMBERS[target](fields_of(stored))
    if relation == Relation.EQUAL:
        return bool(held == operand)
    if relation == Relation.NOT_EQUAL:
        return bool(held != operand)
    if held is None or operand is None:
        return False  # nothing is neither less nor greater
    return bool(held < operand if relation == Relation.LESS else held > operand)


def _size_of(opcode: int, result: Any) -> int:
    """About what a read returns."""
    if opcode == Opcode.GET:
        return 0 if result is None else len(result[3])
    if opcode == Opcode.RANGE:
        return sum(len(item[0]) + len(item[4]) + _ITEM_OVERHEAD_BYTES for item in result[0])
    return 0


_TARGETS: Final = frozenset(map(int, Target))
_RELATIONS: Final = frozenset(map(int, Relation))
_NUMBERS: Final[dict[int, Callable[[Fields], int]]] = {
    Target.MOD_REVISION: lambda fields: fields[0],
    Target.CREATE_REVISION: lambda fields: fields[1],
    Target.VERSION: lambda fields: fields[2],
}
_TXN_READS: Final[dict[int, Callable[..., Any]]] = {Opcode.GET: _get, Opcode.RANGE: _range}
_TXN_WRITES: Final[dict[int, Callable[..., Any]]] = {Opcode.PUT: _put, Opcode.DELETE: _delete}
_READS: Final[dict[int, Callable[..., Any]]] = {**_TXN_READS, Opcode.EVENTS: _events, Opcode.STATUS: _status}
_WRITES: Final[dict[int, Callable[..., Any]]] = {
    **_TXN_WRITES,
    Opcode.CAS: _compare_and_swap,
    Opcode.TXN: _transaction,
}
