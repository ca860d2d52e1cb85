"""The keys of the key-value service: entries, and when they expire.

In the store, `k` and a key lead to an entry: format (1 byte), mod_revision, create_revision, version and, in format 2,
the time of its expiry (8 bytes each, big-endian), value.  `x`, that time and the key lead to nothing: the order in
which entries expire.  `c` is there while entries expire: agreed time when the clock was last read, the clock, a time
before which nothing expires, number of entries that expire.

The clock follows the agreed time (`ctx.time_ns`), but from one batch to the next by no more than
`clock_advance_max_ns`: after an outage whoever holds a key has time to renew it.  So a key lives as long as was asked
for, or longer.  The clock is the service's own, because the agreed time also judges certificates and registrations, for
which it has to be right.
"""

import struct
from collections.abc import Iterator
from typing import Final

from bft.statemachine.api import ApplicationError, Context, ReadStore, ReadWriteStore
from bft.statemachine.kv.history import DELETED, EXPIRED
from bft.statemachine.kv.types import KEY_BYTES_MAX, VALUE_BYTES_MAX, Entry

TABLE: Final = b"k"
EXPIRE_MAX: Final = 64  # entries that one operation removes because they expired; the rest is gone for every reader
_TABLE_END: Final = b"l"
_QUEUE: Final = b"x"
_QUEUE_END: Final = b"y"
_CLOCK: Final = b"c"
_CLOCK_RECORD: Final = struct.Struct(">QQQQ")
_LASTING: Final = 1
_EXPIRING: Final = 2
_HEADER: Final = struct.Struct(">BQQQ")
_EXPIRY: Final = struct.Struct(">Q")
_HEADER_BYTES: Final = _HEADER.size
_EXPIRING_HEADER_BYTES: Final = _HEADER_BYTES + _EXPIRY.size

Fields = tuple[int, int, int, bytes] | tuple[int, int, int, bytes, int]


def stored_key(key: bytes) -> bytes:
    """Return the service's store key of `key`, for proofs."""
    return TABLE + key


def decode_entry(stored: bytes) -> Entry:
    """Return the entry that a proof shows to be in the store; ValueError if it is none."""
    if len(stored) < _HEADER_BYTES or stored[0] not in (_LASTING, _EXPIRING) or len(stored) < value_offset(stored):
        raise ValueError("not a stored entry")
    mod_revision, create_revision, version, value, *expiry = fields_of(stored)
    return Entry(value, mod_revision, create_revision, version, *expiry)


def value_offset(stored: bytes) -> int:
    """Where an entry's value begins."""
    return _HEADER_BYTES if stored[0] == _LASTING else _EXPIRING_HEADER_BYTES


def fields_of(stored: bytes) -> Fields:
    """An entry as results have it: mod_revision, create_revision, version, value and, if it expires, when."""
    _, mod_revision, create_revision, version = _HEADER.unpack_from(stored)
    if stored[0] == _LASTING:
        return mod_revision, create_revision, version, stored[_HEADER_BYTES:]
    value = stored[_EXPIRING_HEADER_BYTES:]
    return mod_revision, create_revision, version, value, _expiry_of(stored)


def _expiry_of(stored: bytes) -> int:
    """When an entry of format 2 expires."""
    expires_ns: int = _EXPIRY.unpack_from(stored, _HEADER_BYTES)[0]
    return expires_ns


class View:
    """What a reader sees: entries that have expired and were not removed yet are not there."""

    __slots__ = ("_store", "expiring", "now_ns")

    def __init__(self, store: ReadStore, time_ns: int, clock_advance_max_ns: int) -> None:
        self._store = store
        self.now_ns = 0  # the clock, while entries expire
        self.expiring = 0  # entries that expire
        record = store.get(_CLOCK)
        if record is not None:
            seen_ns, clock_ns, _, self.expiring = _CLOCK_RECORD.unpack(record)
            self.now_ns = clock_ns + min(max(time_ns - seen_ns, 0), clock_advance_max_ns)

    @property
    def store(self) -> ReadStore:
        return self._store

    def get(self, key: bytes) -> bytes | None:
        """The stored entry of `key`."""
        stored = self._store.get(TABLE + key)
        return None if stored is None or self._has_expired(stored) else stored

    def range(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes | None]]:
        """Key and stored entry of start <= key < end, in key order; None for one that has expired."""
        for key, stored in self._store.range(TABLE + start, _TABLE_END if end is None else TABLE + end):
            yield key[len(TABLE) :], None if self._has_expired(stored) else stored

    def _has_expired(self, stored: bytes) -> bool:
        return stored[0] == _EXPIRING and _expiry_of(stored) <= self.now_ns


class Edit(View):
    """One operation's reads and writes; `events` is what it changed, as (key, stored entry)."""

    __slots__ = ("_clock", "_ctx", "_next_ns", "_writable", "events")

    def __init__(self, ctx: Context, clock_advance_max_ns: int) -> None:
        self._ctx = ctx
        store: ReadWriteStore = ctx.store
        self._store = self._writable = store
        self.events: list[tuple[bytes, bytes]] = []
        self._clock = record = store.get(_CLOCK)
        if record is None:
            self.now_ns = self._next_ns = self.expiring = 0
            return
        seen_ns, clock_ns, self._next_ns, self.expiring = _CLOCK_RECORD.unpack(record)
        self.now_ns = clock_ns + min(ctx.time_ns - seen_ns, clock_advance_max_ns)
        if self.now_ns >= self._next_ns:
            self._expire()

    @property
    def revision(self) -> int:
        return self._ctx.revision

    def close(self) -> None:
        """Write the clock, if entries expire; the last thing that an operation does."""
        if not self.expiring:
            if self._clock is not None:
                self._writable.delete(_CLOCK)
            return
        record = _CLOCK_RECORD.pack(self._ctx.time_ns, self.now_ns, self._next_ns, self.expiring)
        if record != self._clock:
            self._writable.put(_CLOCK, record)

    def put(self, key: bytes, value: bytes, ttl_ns: int | None = None) -> None:
        """Write; ApplicationError if key or value are out of bounds."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise ApplicationError("bad_key", f"a key is 1..{KEY_BYTES_MAX} bytes, not {len(key)}")
        if len(value) > VALUE_BYTES_MAX:
            raise ApplicationError("bad_value", f"a value is at most {VALUE_BYTES_MAX} bytes, not {len(value)}")
        revision = create_revision = self._ctx.revision
        version = 1
        held = self._writable.get(TABLE + key)
        if held is not None:
            if held[0] == _EXPIRING:
                held = self._leave_queue(key, held)
            if held is not None:
                _, _, create_revision, version = _HEADER.unpack_from(held)
                version += 1
        if ttl_ns is None:
            stored = _HEADER.pack(_LASTING, revision, create_revision, version) + value
        else:
            expires = _EXPIRY.pack(self._join_queue(key, ttl_ns))
            stored = b"".join((_HEADER.pack(_EXPIRING, revision, create_revision, version), expires, value))
        self._writable.put(TABLE + key, stored)
        self.events.append((key, stored))

    def delete(self, key: bytes) -> bool:
        """Remove; whether there was something."""
        held = self._writable.get(TABLE + key)
        if held is None or (held[0] == _EXPIRING and self._leave_queue(key, held) is None):
            return False
        self._writable.delete(TABLE + key)
        self.events.append((key, DELETED))
        return True

    def _join_queue(self, key: bytes, ttl_ns: int) -> int:
        """When `key` will expire."""
        if not self.expiring:
            self.now_ns = self._ctx.time_ns
            self._next_ns = self.now_ns + ttl_ns
        expires_ns = self.now_ns + ttl_ns
        self._next_ns = min(self._next_ns, expires_ns)
        self.expiring += 1
        self._writable.put(_QUEUE + _EXPIRY.pack(expires_ns) + key, b"")
        return expires_ns

    def _leave_queue(self, key: bytes, held: bytes) -> bytes | None:
        """The entry that expires in time, about to be replaced or removed; None, and removed, if it has expired."""
        expires_ns = _expiry_of(held)
        self.expiring -= 1
        self._writable.delete(_QUEUE + _EXPIRY.pack(expires_ns) + key)
        if expires_ns > self.now_ns:
            return held
        self._writable.delete(TABLE + key)
        self.events.append((key, EXPIRED))
        return None

    def _expire(self) -> None:
        """Remove entries whose time has come, the earliest first, a bounded number."""
        due: list[bytes] = []
        for queued, _ in self._store.range(_QUEUE, _QUEUE_END, limit=EXPIRE_MAX + 1):
            self._next_ns = _EXPIRY.unpack_from(queued, len(_QUEUE))[0]
            if self._next_ns > self.now_ns:
                break
            due.append(queued)
        for queued in due[:EXPIRE_MAX]:
            key = queued[len(_QUEUE) + _EXPIRY.size :]
            self._writable.delete(queued)
            self._writable.delete(TABLE + key)
            self.events.append((key, EXPIRED))
        self.expiring -= len(due[:EXPIRE_MAX])
