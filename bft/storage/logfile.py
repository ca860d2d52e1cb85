r"""The log's file format: a page of header, then groups, each on pages of its own; docs/durability.md shows each byte.

    header   "bft-log\0", u32 CRC of what follows, u32 length of the header, u32 format version, u32 replica, u32 kind
             (1 segment, 2 base), u64 number, u64 salt, u64 extent, cluster
    group    u32 CRC of the rest of this head, u32 CRC of the records, u32 kind (1 data, 2 seal, 3 end), u32 length of
             the records, u64 number (0, 1, 2, ... in this file), u64 salt, records
    record   u32 length of the payload, u8 type, u64 seq, payload

Integers are big endian; CRC is CRC-32C.  What one commit wrote is one group.  A group's checksums begin with that of
its file's header and its head repeats the salt, which is drawn at random each time a segment is used: neither what
clients chose to write, nor what the segment held in an earlier use, passes for a group.

A group is written only after the one before it is on disk, and on pages that hold nothing else: only the last can be
torn.  So a bad group is a torn tail if no head of a later one follows, else the file is damaged.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from bft.errors import DataDirectoryError, ForeignDataError
from bft.storage.records import Entry

FORMAT_VERSION: Final = 3
PAGE: Final = 4096  # no write to a page can harm what another page holds
_MAGIC: Final = b"bft-log\0"
_IDENTITY: Final = struct.Struct(">II")
_HEADER: Final = struct.Struct(">8sIIIIIQQQ")
_CHECKED_FROM: Final = 12  # the header's checksum covers it from here
_GROUP: Final = struct.Struct(">IIIIQQ")
_RECORD: Final = struct.Struct(">IBQ")
REPAIR: Final = "`bft replica repair` sets this replica's data aside and rejoins from its peers"


def damaged(path: Path, offset: int, what: str) -> DataDirectoryError:
    """The refusal to start from a damaged file."""
    return DataDirectoryError(f"{path}: damaged at byte {offset}: {what}; {REPAIR}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose files these are."""

    cluster: str
    replica: int

    def encode(self) -> bytes:
        return _IDENTITY.pack(FORMAT_VERSION, self.replica) + self.cluster.encode()

    def check(self, encoded: bytes, path: Path) -> None:
        """Raises ForeignDataError unless `encoded` is this identity in a format that we read."""
        if len(encoded) < _IDENTITY.size:
            raise DataDirectoryError(f"{path}: the header is too short to be one")
        version, replica = _IDENTITY.unpack_from(encoded)
        cluster = encoded[_IDENTITY.size :].decode("utf-8", "replace")
        if version != FORMAT_VERSION:
            raise ForeignDataError(
                f"{path}: written in format {version}, this version reads {FORMAT_VERSION}: run the one that wrote it"
            )
        if (cluster, replica) != (self.cluster, self.replica):
            raise ForeignDataError(
                f"{path}: belongs to replica {replica} of cluster {cluster}, not to replica {self.replica} of "
                f"{self.cluster}: correct `data` in replica.toml"
            )


class FileKind(IntEnum):
    """What a file of the log holds."""

    SEGMENT = 1  # groups in the order in which they were committed
    BASE = 2  # what is still needed of the segments before the one with the same number


class GroupKind(IntEnum):
    """What a group says."""

    DATA = 1
    SEAL = 2  # the groups before it are on disk
    END = 3  # as SEAL, and the log goes on in the next segment


class Key(NamedTuple):
    """What binds groups to one use of one file."""

    salt: int
    seed: int  # the checksum of the file's header


class Header(NamedTuple):
    """The header of a file, and the key of its groups."""

    kind: FileKind
    number: int  # of the segment; of a base that of the first segment to read after it
    extent: int  # a segment's size when it was made; the sequence number up to which a base was truncated
    key: Key


class Position(NamedTuple):
    """Where the payload of an entry stands in its file."""

    type: int
    seq: int
    offset: int
    length: int


def pages(size: int) -> int:
    """`size` rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def size_of(entry: Entry) -> int:
    """The bytes of an entry in a group."""
    return _RECORD.size + len(entry.payload)


def group_size(records: int) -> int:
    """The bytes of a group whose entries take `records` bytes."""
    return pages(_GROUP.size + records)


def encode_header(identity: Identity, kind: FileKind, number: int, salt: int, extent: int) -> tuple[bytes, Key]:
    """The first page of a file, and the key of its groups."""
    cluster = identity.cluster.encode()
    length = _HEADER.size + len(cluster)
    fields = (length, FORMAT_VERSION, identity.replica, kind, number, salt, extent)
    checked = _HEADER.pack(_MAGIC, 0, *fields)[_CHECKED_FROM:] + cluster
    seed = crc32c(checked)
    return _padded((_MAGIC, seed.to_bytes(4, "big"), checked)), Key(salt, seed)


def encode_group(
    key: Key, kind: GroupKind, number: int, entries: Iterable[Entry], offset: int
) -> tuple[bytes, list[Position]]:
    """The pages of a group that will stand at `offset`, and where its entries will be."""
    parts: list[bytes] = []
    positions = []
    at = offset + _GROUP.size
    for entry in entries:
        size = len(entry.payload)
        parts += (_RECORD.pack(size, entry.type, entry.seq), entry.payload)
        at += _RECORD.size
        positions.append(Position(entry.type, entry.seq, at, size))
        at += size
    records = b"".join(parts)
    head = _GROUP.pack(0, crc32c(records, key.seed), kind, len(records), number, key.salt)[4:]
    return _padded((crc32c(head, key.seed).to_bytes(4, "big"), head, records)), positions


class Content(NamedTuple):
    """What a file holds."""

    header: Header
    positions: list[Position]
    groups: int
    last: int  # where the last good group begins
    size: int  # where it ends; what follows is old, or a torn tail
    ended: bool  # the last good group is an END


def read_content(data: bytes, path: Path, identity: Identity) -> Content:
    """Read a whole file.  Raises DataDirectoryError when it is damaged or not ours."""
    header = _read_header(data, path, identity)
    positions: list[Position] = []
    number = 0
    last = offset = PAGE
    ended = False
    while not ended:
        head = _read_head(data, offset, header.key)
        if head is None or head.number != number or not head.holds(data, offset, header.key):
            _refuse_later_groups(data, offset, path, header.key)
            break
        last = offset
        positions.extend(_read_records(data, offset + _GROUP.size, head.length, path))
        offset += group_size(head.length)
        number += 1
        ended = head.kind == GroupKind.END
    return Content(header, positions, number, last, offset, ended)


class _Head(NamedTuple):
    checksum: int
    kind: int
    length: int
    number: int

    def holds(self, data: bytes, offset: int, key: Key) -> bool:
        start = offset + _GROUP.size
        records = memoryview(data)[start : start + self.length]
        return len(records) == self.length and crc32c(records, key.seed) == self.checksum


def _read_head(data: bytes, offset: int, key: Key) -> _Head | None:
    """The head at `offset`, None if none of this use of this file stands there."""
    if offset + _GROUP.size > len(data):
        return None
    head_checksum, checksum, kind, length, number, salt = _GROUP.unpack_from(data, offset)
    if salt != key.salt or crc32c(data[offset + 4 : offset + _GROUP.size], key.seed) != head_checksum:
        return None
    return _Head(checksum, kind, length, number)


def _refuse_later_groups(data: bytes, offset: int, path: Path, key: Key) -> None:
    """Raise if a group was written behind the bad one at `offset`, which was thus on disk once."""
    for later in range(offset + PAGE, len(data), PAGE):
        if _read_head(data, later, key) is not None:
            raise damaged(path, offset, f"a group of records is not what was written, and good ones follow at {later}")


def _read_header(data: bytes, path: Path, identity: Identity) -> Header:
    if len(data) < PAGE:
        raise damaged(path, len(data), "the file ends within its header")
    magic, seed, length, version, replica, kind, number, salt, extent = _HEADER.unpack_from(data)
    if magic != _MAGIC or not _HEADER.size <= length <= PAGE or crc32c(data[_CHECKED_FROM:length]) != seed:
        raise damaged(path, 0, "not a log, or its header is not what was written")
    identity.check(_IDENTITY.pack(version, replica) + data[_HEADER.size : length], path)
    if kind == FileKind.SEGMENT and len(data) < extent:
        raise damaged(path, len(data), f"the file ends here, not at {extent}")
    return Header(FileKind(kind), number, extent, Key(salt, seed))


def _read_records(data: bytes, offset: int, length: int, path: Path) -> Iterator[Position]:
    end = offset + length
    while offset < end:
        if offset + _RECORD.size > end:
            raise damaged(path, offset, "a group with a valid checksum is malformed")
        size, type_, seq = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + size > end:
            raise damaged(path, offset, "a group with a valid checksum is malformed")
        yield Position(type_, seq, offset, size)
        offset += size


def entries_of(data: bytes, positions: Iterable[Position]) -> list[Entry]:
    """The entries at these positions of a file's content."""
    return [Entry(p.type, p.seq, data[p.offset : p.offset + p.length]) for p in positions]


def _padded(parts: Sequence[bytes]) -> bytes:
    size = sum(map(len, parts))
    return b"".join((*parts, bytes(pages(size) - size)))
