"""The files of a log: how they are made, found again, and used again.

    log-N    segment N; as large as it will be, written over with zeros and synced, before it gets its name
    base-N   what is still needed of the segments before N, complete and synced before it gets its name
    spare-N  a segment that is no longer needed, to be used again
    *.tmp    what does not exist yet

At every instant the base with the highest number and the segments from that number on are the whole log: a base appears
only after all that it carries over was read back, and what it replaces goes only after it is durable.
"""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from bft.errors import DataDirectoryError
from bft.storage import files
from bft.storage.logfile import (
    PAGE,
    REPAIR,
    Content,
    FileKind,
    GroupKind,
    Identity,
    Key,
    Position,
    damaged,
    encode_group,
    encode_header,
    entries_of,
    group_size,
    read_content,
    size_of,
)
from bft.storage.records import Entry

SEGMENT: Final = "log-"
BASE: Final = "base-"
_SPARE: Final = "spare-"
_TEMPORARY: Final = ".tmp"
SPARES_MAX: Final = 16
_log = structlog.get_logger()


def is_no_room(error: BaseException) -> bool:
    """Whether the disk is full, rather than broken."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


@dataclass(slots=True)
class Segment:
    """A segment and how far it is written; of the writer thread alone once it is in use."""

    path: Path
    number: int
    descriptor: int
    key: Key
    capacity: int  # bytes; only a single group that is larger than all of it goes beyond
    groups: int = 0
    size: int = PAGE
    positions: list[Position] = field(default_factory=list)

    def fitting(self, entries: Sequence[Entry]) -> int:
        """How many of the first entries make a group and leave room for seal and end; one at least if it is empty."""
        room = self.capacity - self.size - 2 * PAGE
        records = 0
        for count, entry in enumerate(entries):
            records += size_of(entry)
            if group_size(records) > room:
                return count or int(self.groups == 0)
        return len(entries)

    def write(self, kind: GroupKind, entries: Sequence[Entry] = (), *, sync: bool) -> int:
        """Write one group, durably with `sync`; its size.  Raises OSError."""
        data, positions = encode_group(self.key, kind, self.groups, entries, self.size)
        files.write_at(self.descriptor, data, self.size)
        if sync:
            files.sync(self.descriptor)
        self.groups += 1
        self.size += len(data)
        self.positions += positions
        return len(data)


class Base(NamedTuple):
    """What was carried over from segments that are gone."""

    path: Path
    number: int  # the log goes on in the segment with this number
    truncated: int  # sequence numbers up to here may be missing
    positions: list[Position]


@dataclass(slots=True)
class Found:
    """A log as it was read from its directory."""

    base: Base
    closed: list[Segment]  # their descriptors are closed too
    active: Segment
    following: Segment | None  # made already, nothing in it
    entries: list[Entry]  # of all of them, in the order in which they were written


def name(directory: Path, prefix: str, number: int) -> Path:
    """The path of a file of the log."""
    return directory / f"{prefix}{number:010}"


def numbered(directory: Path, prefix: str) -> list[tuple[int, Path]]:
    """The files of one kind, in ascending order."""
    return sorted(
        (int(path.name.removeprefix(prefix)), path)
        for path in directory.glob(f"{prefix}*")
        if path.name.removeprefix(prefix).isdecimal()
    )


def read_entries(path: Path, positions: Sequence[Position]) -> list[Entry]:
    """The entries at these positions of a file, in order."""
    with path.open("rb") as reader:
        entries = []
        for position in positions:
            reader.seek(position.offset)
            entries.append(Entry(position.type, position.seq, reader.read(position.length)))
        return entries


def make_base(directory: Path, identity: Identity, number: int, truncated: int, entries: Sequence[Entry]) -> Base:
    """Write the base from which the log goes on in segment `number`; durable on return."""
    path = name(directory, BASE, number)
    temporary = path.with_name(path.name + _TEMPORARY)
    header, key = encode_header(identity, FileKind.BASE, number, _salt(), truncated)
    data, positions = encode_group(key, GroupKind.DATA, 0, entries, len(header))
    end, _ = encode_group(key, GroupKind.END, 1, (), len(header) + len(data))
    descriptor = files.create(temporary)
    try:
        files.write_at(descriptor, header + data + end, 0)
        files.sync(descriptor)
    finally:
        os.close(descriptor)
    files.rename(temporary, path)
    files.sync_directory(directory)
    return Base(path, number, truncated, positions)


def make_segment(directory: Path, identity: Identity, number: int, capacity: int, spare: Path | None) -> Segment:
    """A segment with nothing in it, all of its space taken; durable on return.

    With `spare` it is that file, whose old groups are no groups of the new segment: they have another salt.
    """
    path = name(directory, SEGMENT, number)
    header, key = encode_header(identity, FileKind.SEGMENT, number, _salt(), capacity)
    temporary = spare or path.with_name(path.name + _TEMPORARY)
    descriptor = files.open_to_write(temporary) if spare else files.create(temporary)
    try:
        if spare:
            files.set_size(descriptor, capacity)  # a group larger than a segment may have extended it
            files.write_at(descriptor, header, 0)
        else:
            # Zeros, not fallocate: an extent that was never written is marked in metadata, and to change the mark
            # is what would make each first commit to it slow.
            files.write_at(descriptor, header + bytes(capacity - len(header)), 0)
        files.sync(descriptor)
        files.rename(temporary, path)
        files.sync_directory(directory)
    except OSError:
        os.close(descriptor)
        raise
    return Segment(path, number, descriptor, key, capacity)


class Reserve:
    """The next segment, made ahead of its use by a thread of its own, out of what is no longer needed if possible."""

    def __init__(self, directory: Path, identity: Identity, capacity: int) -> None:
        self._directory = directory
        self._identity = identity
        self._capacity = capacity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-reserve")
        self._spares = [path for _, path in numbered(directory, _SPARE)]

    def prepare(self, number: int) -> "Future[Segment]":
        """The segment `number`, soon; the future fails with OSError."""
        return self._thread.submit(self._prepare, number)

    @staticmethod
    def have(segment: Segment) -> "Future[Segment]":
        """A segment that is there already."""
        future: Future[Segment] = Future()
        future.set_result(segment)
        return future

    def recycle(self, superseded: Sequence[Path]) -> None:
        """Segments below the base."""
        self._thread.submit(self._recycle, superseded)

    def close(self) -> None:
        """Wait until nothing is being made."""
        self._thread.shutdown(wait=True)

    def _prepare(self, number: int) -> Segment:
        while self._spares:
            spare = self._spares.pop()
            if spare.stat().st_size >= self._capacity:  # so that all of its space is there
                return make_segment(self._directory, self._identity, number, self._capacity, spare)
            files.unlink(spare)
        try:
            return make_segment(self._directory, self._identity, number, self._capacity, None)
        except OSError as error:
            if is_no_room(error):
                _log.warning("no room for the next segment of the log: the replica stops when this one is full")
                name(self._directory, SEGMENT, number).with_suffix(_TEMPORARY).unlink(missing_ok=True)
            raise

    def _recycle(self, superseded: Sequence[Path]) -> None:
        for path in superseded:
            if len(self._spares) < SPARES_MAX:
                spare = path.with_name(path.name.replace(SEGMENT, _SPARE))
                files.rename(path, spare)
                self._spares.append(spare)
            else:
                files.unlink(path)


def find(directory: Path, identity: Identity, capacity: int, *, sync: bool) -> Found:
    """Read the log in `directory`, or begin one; a torn tail is cut off, everything else is on disk for certain.

    Raises DataDirectoryError for a damaged or foreign file, OSError when the disk fails.
    """
    for leftover in directory.glob(f"*{_TEMPORARY}"):
        if leftover.name.startswith((SEGMENT, BASE)):
            files.unlink(leftover)
    bases = numbered(directory, BASE)
    if not bases:
        return _begin(directory, identity, capacity)
    base, entries = _read_base(*bases[-1], identity)
    found = _read_segments(directory, identity, base.number)
    active = _active(found)
    for each in found[: active + 1]:
        entries += entries_of(each.data, each.content.positions)
    if sync:
        _make_certain(found[: active + 1])
    superseded = (*bases[:-1], *(entry for entry in numbered(directory, SEGMENT) if entry[0] < base.number))
    unused = ((each.content.header.number, each.path) for each in found[active + 2 :])
    for _, path in (*superseded, *unused):
        files.unlink(path)
    following = found[active + 1].segment() if active + 1 < len(found) else None
    if following is not None:
        following.descriptor = files.open_to_write(following.path)
    current = found[active].segment()
    current.descriptor = files.open_to_write(current.path)
    return Found(base, [each.segment() for each in found[:active]], current, following, entries)


def read(directory: Path, identity: Identity) -> tuple[int, list[Entry]]:
    """Up to where the log in `directory` was truncated, and what it holds; nothing is changed, a torn tail ignored.

    Raises as `find`.
    """
    bases = numbered(directory, BASE)
    if not bases:
        _refuse_records_without_base(directory, identity)
        return 0, []
    base, entries = _read_base(*bases[-1], identity)
    found = _read_segments(directory, identity, base.number)
    for each in found[: _active(found) + 1]:
        entries += entries_of(each.data, each.content.positions)
    return base.truncated, entries


def _read_base(number: int, path: Path, identity: Identity) -> tuple[Base, list[Entry]]:
    data = path.read_bytes()
    content = read_content(data, path, identity)
    if not content.ended or (content.header.kind, content.header.number) != (FileKind.BASE, number):
        raise damaged(path, content.size, "its end is missing, or it is another file under this name")
    return Base(path, number, content.header.extent, content.positions), entries_of(data, content.positions)


class _Read(NamedTuple):
    path: Path
    data: bytes
    content: Content

    def segment(self) -> Segment:
        header, positions, groups, _, size, _ = self.content
        return Segment(self.path, header.number, -1, header.key, header.extent, groups, size, positions)


def _read_segments(directory: Path, identity: Identity, first: int) -> list[_Read]:
    """All segments from the first on that is needed.  Raises DataDirectoryError if one is missing or damaged."""
    found = []
    expected = first
    for number, path in numbered(directory, SEGMENT):
        if number < first:
            continue
        if number != expected:
            raise DataDirectoryError(
                f"{name(directory, SEGMENT, expected)}: missing, though later ones are here; {REPAIR}"
            )
        data = path.read_bytes()
        content = read_content(data, path, identity)
        if (content.header.kind, content.header.number) != (FileKind.SEGMENT, number):
            raise damaged(path, 0, f"this is segment {content.header.number} under another name")
        found.append(_Read(path, data, content))
        expected += 1
    if not found or (found[-1].content.ended):
        raise DataDirectoryError(
            f"{name(directory, SEGMENT, expected)}: missing, though the log goes on in it; {REPAIR}"
        )
    return found


def _active(found: Sequence[_Read]) -> int:
    """Which segment is written next.  Raises DataDirectoryError if one has no end though a later one was begun."""
    last = max((index for index, each in enumerate(found) if each.content.groups), default=0)
    for each in found[:last]:
        if not each.content.ended:
            raise damaged(
                each.path, each.content.size, "its end is not what was written, and the log goes on in the next"
            )
    return last + int(found[last].content.ended)


def _make_certain(found: Sequence[_Read]) -> None:
    """Put on disk what was read, which may so far be in memory alone: it is acted on from now on.

    Syncing is not enough for the last group: after a sync that failed, the system takes its pages for clean.  Those
    before it were on disk before it was written.
    """
    last = max((index for index, each in enumerate(found) if each.content.groups), default=None)
    for index, each in enumerate(found):
        descriptor = files.open_to_write(each.path)
        try:
            if index == last:
                content = each.content
                files.write_at(descriptor, each.data[content.last : content.size], content.last)
            files.sync(descriptor)
        finally:
            os.close(descriptor)
    files.sync_directory(found[0].path.parent)


def _begin(directory: Path, identity: Identity, capacity: int) -> Found:
    """A new log; it exists once its base does."""
    _refuse_records_without_base(directory, identity)
    for _, path in numbered(directory, SEGMENT):
        files.unlink(path)
    active = make_segment(directory, identity, 1, capacity, None)
    return Found(make_base(directory, identity, 1, 0, ()), [], active, None, [])


def _refuse_records_without_base(directory: Path, identity: Identity) -> None:
    for _, path in numbered(directory, SEGMENT):
        if read_content(path.read_bytes(), path, identity).groups:
            raise DataDirectoryError(f"{name(directory, BASE, 1)}: missing, though {path.name} is here; {REPAIR}")


def _salt() -> int:
    return int.from_bytes(os.urandom(8), "big")
