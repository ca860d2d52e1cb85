"""What happened to which key, for a number of revisions back: the events that watches are made of.

Events are appended to the record `t`, the tail; once that is large enough its events become a segment of their own, and
the oldest segments go.  So a write costs one more record, dirty already most of the time, instead of one a revision.

`t` = header, events, revision of the last (8 bytes), revisions in the tail (4).  The header changes with segments
only: revision of the newest event that is gone (8), number of the oldest segment (8), number that the tail will have
(8), revisions in all segments (8), their bytes (8).  `h` number (8) = revision of the last event (8), revisions (4),
events.  An event is revision (8), length of the key (2), of the entry (4), key, entry as it is stored; the entry of a
deleted key is the byte 3, of an expired one the byte 4.  All numbers are big-endian.  The events of one operation have
one revision and are in one segment.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from bft.statemachine.api import ReadStore, ReadWriteStore

SEGMENT_BYTES: Final = 4096
ANSWER_BYTES_MAX: Final = 256 << 10  # of events in one answer; one revision's may go past it
SCAN_BYTES_MAX: Final = 256 << 10  # looked through for one answer; one segment may go past it
DELETED: Final = b"\x03"  # no format of an entry
EXPIRED: Final = b"\x04"
_TAIL: Final = b"t"
_HEADER: Final = struct.Struct(">QQQQQ")
_HEADER_BYTES: Final = _HEADER.size
_TRAILER: Final = struct.Struct(">QI")
_TRAILER_BYTES: Final = _TRAILER.size
_SEGMENT: Final = struct.Struct(">QI")
_EVENT: Final = struct.Struct(">QHI")
_EVENT_OVERHEAD_BYTES: Final = 48  # in an answer, at most
_EMPTY: Final = _HEADER.pack(0, 0, 0, 0, 0) + _TRAILER.pack(0, 0)


class Extent(NamedTuple):
    """How far the history reaches."""

    last: int  # revision of the newest event; 0: there was none
    compacted: int  # of the newest event that is gone; 0: none is


class Found(NamedTuple):
    """Events (revision, key, stored entry), and the revision from which on nothing was looked at."""

    events: list[tuple[int, bytes, bytes]]
    next: int


class Compacted(Exception):
    """Events asked for are gone; `args[0]` is the first revision of which all are known."""


def extent_of(store: ReadStore) -> Extent:
    """How far the history reaches."""
    record = store.get(_TAIL)
    if record is None:
        return Extent(0, 0)
    return Extent(_TRAILER.unpack_from(record, len(record) - _TRAILER_BYTES)[0], _HEADER.unpack_from(record)[0])


class History:
    """Keeps the events of at least `revisions` revisions, or, if those are larger than that, of about `bytes_max`."""

    __slots__ = ("_bytes_max", "_revisions")

    def __init__(self, revisions: int, bytes_max: int) -> None:
        self._revisions: Final = revisions
        self._bytes_max: Final = bytes_max

    def append(self, store: ReadWriteStore, revision: int, events: list[tuple[bytes, bytes]]) -> None:
        """Add the events (key, stored entry) of one operation, at least one."""
        record = store.get(_TAIL) or _EMPTY
        size = len(record) - _TRAILER_BYTES
        count: int = _TRAILER.unpack_from(record, size)[1] + 1
        parts = [record[:size]]
        for key, entry in events:
            parts += (_EVENT.pack(revision, len(key), len(entry)), key, entry)
        parts.append(_TRAILER.pack(revision, count))
        record = b"".join(parts)
        if len(record) < SEGMENT_BYTES:
            store.put(_TAIL, record)
        else:
            self._seal(store, record, revision, count)

    def _seal(self, store: ReadWriteStore, record: bytes, last: int, count: int) -> None:
        """Make the tail a segment, and let the oldest segments go that nothing demands.

        Each goes once: what an operation removes is paid for by what was written.
        """
        compacted, head, number, revisions, size = _HEADER.unpack_from(record)
        segment = _SEGMENT.pack(last, count) + record[_HEADER_BYTES:-_TRAILER_BYTES]
        store.put(_segment_key(number), segment)
        revisions += count
        size += len(segment)
        while head <= number:
            oldest = _segment(store, head)
            oldest_last, oldest_count = _SEGMENT.unpack_from(oldest)
            if revisions - oldest_count < self._revisions and size <= self._bytes_max:
                break
            store.delete(_segment_key(head))
            head, compacted = head + 1, oldest_last
            revisions -= oldest_count
            size -= len(oldest)
        store.put(_TAIL, _HEADER.pack(compacted, head, number + 1, revisions, size) + _TRAILER.pack(last, 0))


def find(store: ReadStore, since: int, start: bytes, end: bytes | None) -> Found:
    """The events of start <= key < end from revision `since` on, all of a revision or none.  Raises Compacted.

    Looks through a bounded part of the history; whoever gets nothing goes on from `next`.
    """
    record = store.get(_TAIL)
    last, compacted = extent_of(store)
    if since <= compacted:
        raise Compacted(compacted + 1)
    found: list[tuple[int, bytes, bytes]] = []
    if record is None or since > last:
        return Found(found, max(since, last + 1))
    size = scanned = 0
    for body in _bodies(store, record, since):
        for revision, key, entry in _events(body):
            if scanned > SCAN_BYTES_MAX:
                return Found(found, revision)
            if size > ANSWER_BYTES_MAX and revision != found[-1][0]:
                return Found(found, revision)
            if revision >= since and start <= key and (end is None or key < end):
                found.append((revision, key, entry))
                size += len(key) + len(entry) + _EVENT_OVERHEAD_BYTES
        scanned += len(body)
    return Found(found, last + 1)


def _bodies(store: ReadStore, record: bytes, since: int) -> Iterator[bytes]:
    """The events among which those of `since` and later are."""
    _, low, end, _, _ = _HEADER.unpack_from(record)
    high = end  # of the segments from `low` on, the first whose last revision is not before `since`, is before `high`
    while low < high:
        middle = (low + high) // 2
        if _SEGMENT.unpack_from(_segment(store, middle))[0] < since:
            low = middle + 1
        else:
            high = middle
    for number in range(low, end):
        yield _segment(store, number)[_SEGMENT.size :]
    yield record[_HEADER_BYTES:-_TRAILER_BYTES]


def _events(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    offset = 0
    while offset < len(body):
        revision, key_bytes, entry_bytes = _EVENT.unpack_from(body, offset)
        entry = offset + _EVENT.size + key_bytes
        yield revision, body[entry - key_bytes : entry], body[entry : entry + entry_bytes]
        offset = entry + entry_bytes


def _segment_key(number: int) -> bytes:
    return b"h" + number.to_bytes(8, "big")


def _segment(store: ReadStore, number: int) -> bytes:
    segment = store.get(_segment_key(number))
    if segment is None:
        raise LookupError("a segment of the history is missing")
    return segment
