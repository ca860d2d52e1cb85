r"""The log's file format: a header, then groups; what one commit wrote is one group under one checksum.

    header   "bft-log\0", u32 length and u32 CRC of the rest: u64 truncated, u32 salt, u32 format version, u32 replica,
             cluster
    group    u32 length, u32 CRC (of salt, number and records), u64 number (0, 1, 2, ...), records
    record   u32 length of the payload, u8 type, u64 seq, payload

Integers are big endian; the CRC is zlib's CRC-32.  A group is written only after the one before it is on disk, so only
the last can be torn: a bad group is a torn tail if nothing valid follows, else the file is damaged.  Records hold what
clients sent; the salt, drawn at random for each file, keeps a client from sending what looks like a valid group.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from bft.errors import DataDirectoryError
from bft.storage.records import Entry

FORMAT_VERSION: Final = 2
_MAGIC: Final = b"bft-log\0"
_HEADER: Final = struct.Struct(">8sII")
_IDENTITY: Final = struct.Struct(">II")
_START: Final = struct.Struct(">QI")
_GROUP: Final = struct.Struct(">IIQ")
_RECORD: Final = struct.Struct(">IBQ")
_LOOK_AHEAD: Final = 16  # groups after a bad one that are searched for


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose files these are."""

    cluster: str
    replica: int

    def encode(self) -> bytes:
        return _IDENTITY.pack(FORMAT_VERSION, self.replica) + self.cluster.encode()

    def check(self, encoded: bytes, path: Path) -> None:
        """Raises DataDirectoryError unless `encoded` is this identity in a format that we read."""
        if len(encoded) < _IDENTITY.size:
            raise DataDirectoryError(f"{path}: the header is too short to be one")
        version, replica = _IDENTITY.unpack_from(encoded)
        cluster = encoded[_IDENTITY.size :].decode("utf-8", "replace")
        if version != FORMAT_VERSION:
            raise DataDirectoryError(
                f"{path}: written in format {version}, this version reads {FORMAT_VERSION}: run the one that wrote it"
            )
        if (cluster, replica) != (self.cluster, self.replica):
            raise DataDirectoryError(
                f"{path}: belongs to replica {replica} of cluster {cluster}, not to replica {self.replica} of "
                f"{self.cluster}: correct `data` in replica.toml"
            )


class Position(NamedTuple):
    """Where the payload of an entry stands in the file."""

    type: int
    seq: int
    offset: int
    length: int


def encode_header(identity: Identity, truncated: int, salt: int) -> bytes:
    """The start of a file from which entries about sequence numbers up to `truncated` may be missing."""
    body = _START.pack(truncated, salt) + identity.encode()
    return _HEADER.pack(_MAGIC, len(body), crc32(body)) + body


def encode_group(number: int, entries: Iterable[Entry], offset: int, salt: int) -> tuple[bytes, list[Position]]:
    """The bytes of a group that will stand at `offset`, and where its entries will be."""
    parts = []
    positions = []
    at = offset + _GROUP.size
    for entry in entries:
        size = len(entry.payload)
        parts.append(_RECORD.pack(size, entry.type, entry.seq))
        parts.append(entry.payload)
        at += _RECORD.size
        positions.append(Position(entry.type, entry.seq, at, size))
        at += size
    records = b"".join(parts)
    head = _GROUP.pack(len(records), _checksum(number, records, salt), number)
    return head + records, positions


class Content(NamedTuple):
    """What a log file holds."""

    truncated: int
    salt: int
    positions: list[Position]
    groups: int
    size: int  # where the last good group ends; what follows is a torn tail


def read_content(data: bytes, identity: Identity, path: Path) -> Content:
    """Read a whole file.  Raises DataDirectoryError when it is damaged or not ours."""
    truncated, salt, offset = _read_header(data, identity, path)
    positions: list[Position] = []
    number = 0
    while offset < len(data):
        end = _group_end(data, offset, number, salt)
        if end is None:
            if _valid_group_follows(data, offset, number, salt):
                raise DataDirectoryError(
                    f"{path}: damaged at byte {offset}, with good data behind it: restore the disk or rejoin from peers"
                )
            break
        positions.extend(_read_group(data, offset + _GROUP.size, end, path))
        offset = end
        number += 1
    return Content(truncated, salt, positions, number, offset)


def _checksum(number: int, records: bytes | memoryview, salt: int) -> int:
    return crc32(records, crc32(number.to_bytes(8, "big"), salt))


def _read_header(data: bytes, identity: Identity, path: Path) -> tuple[int, int, int]:
    """What was truncated, the salt, and where the groups begin."""
    if len(data) < _HEADER.size:
        raise DataDirectoryError(f"{path}: too short to be a log")
    magic, length, checksum = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + length]
    if magic != _MAGIC or len(body) != length or crc32(body) != checksum or length < _START.size:
        raise DataDirectoryError(f"{path}: not a log, or its header is damaged")
    identity.check(body[_START.size :], path)
    truncated, salt = _START.unpack_from(body)
    return truncated, salt, _HEADER.size + int(length)


def _group_end(data: bytes, offset: int, number: int, salt: int) -> int | None:
    """Where the group `number` at `offset` ends, None if no such group stands there."""
    if offset + _GROUP.size > len(data):
        return None
    length, checksum, found = _GROUP.unpack_from(data, offset)
    end = offset + _GROUP.size + int(length)
    if found != number or end > len(data):
        return None
    return end if _checksum(number, memoryview(data)[offset + _GROUP.size : end], salt) == checksum else None


def _valid_group_follows(data: bytes, offset: int, number: int, salt: int) -> bool:
    for later in range(number + 1, number + 1 + _LOOK_AHEAD):
        pattern = later.to_bytes(8, "big")
        at = data.find(pattern, offset)
        while at >= 0:
            start = at - (_GROUP.size - len(pattern))
            if start > offset and _group_end(data, start, later, salt) is not None:
                return True
            at = data.find(pattern, at + 1)
    return False


def _read_group(data: bytes, offset: int, end: int, path: Path) -> Iterable[Position]:
    while offset < end:
        if offset + _RECORD.size > end:
            raise DataDirectoryError(f"{path}: a group with a valid checksum is malformed at byte {offset}")
        length, type_, seq = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + length > end:
            raise DataDirectoryError(f"{path}: a group with a valid checksum is malformed at byte {offset}")
        yield Position(type_, seq, offset, length)
        offset += length
