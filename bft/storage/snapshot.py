"""Snapshots: the whole state at a checkpoint in one file, which appears complete and durable or not at all.

    header   "bft-snap", u32 length and u32 CRC of the rest: the identity as in the log's header
    head     u64 seq, 32 bytes Merkle root
    item     u32 length of the key, u32 length of the value, key, value
    end      u32 0xFFFFFFFF, u32 CRC of everything after the header

Whoever loads one compares the root of the items with the root of a certificate; the checksum only says sooner, and for
certain, that a file is damaged.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from bft.errors import DataDirectoryError, StorageFailure
from bft.storage.files import sync_directory
from bft.storage.logfile import Identity

_MAGIC: Final = b"bft-snap"
_HEADER: Final = struct.Struct(">8sII")
_HEAD: Final = struct.Struct(">Q32s")
_ITEM: Final = struct.Struct(">II")
_END: Final = 0xFFFFFFFF
_PREFIX: Final = "snapshot-"
_TEMPORARY: Final = ".tmp"
_CHUNK: Final = 256 << 10
KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot on disk, its content not read yet."""

    path: Path
    seq: int


class SnapshotStore:
    """The snapshots in a directory.  Methods block: `save` belongs in a thread of its own."""

    def __init__(self, directory: Path, identity: Identity, *, sync: bool = True) -> None:
        self._directory = directory
        self._identity = identity
        self._sync = sync

    def save(self, seq: int, root: bytes, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the state at `seq`.  Raises StorageFailure."""
        path = self._directory / f"{_PREFIX}{seq:020}"
        temporary = path.with_name(path.name + _TEMPORARY)
        try:
            with temporary.open("wb", buffering=0) as file:
                self._write(file, seq, root, items)
                if self._sync:
                    os.fsync(file.fileno())
            temporary.rename(path)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageFailure(f"{path}: {error.strerror}: the replica stops; free or repair the disk") from error

    def found(self) -> list[Snapshot]:
        """All snapshots, the latest first."""
        found = [
            Snapshot(path, int(path.name.removeprefix(_PREFIX)))
            for path in self._directory.glob(f"{_PREFIX}*")
            if path.name.removeprefix(_PREFIX).isdecimal()
        ]
        return sorted(found, key=lambda snapshot: snapshot.seq, reverse=True)

    def load(self, snapshot: Snapshot) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The root that the file claims and its items.  Raises DataDirectoryError."""
        path = snapshot.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataDirectoryError(f"{path}: {error.strerror}") from error
        body = self._check(data, path)
        seq, root = _HEAD.unpack_from(data, body)
        if seq != snapshot.seq:
            raise DataDirectoryError(f"{path}: holds the state at {seq}, not what its name says")
        return root, list(_items(data, body + _HEAD.size, path))

    def prune(self, truncated: int) -> None:
        """Remove what is no longer needed once the snapshot at `truncated` is the one to start from."""
        older = [snapshot for snapshot in self.found() if snapshot.seq < truncated]
        needless = [snapshot.path for snapshot in older[KEPT - 1 :]]
        for path in (*needless, *self._directory.glob(f"{_PREFIX}*{_TEMPORARY}")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageFailure(f"{path}: {error.strerror}: the replica stops; repair the disk") from error

    def _write(self, file: BinaryIO, seq: int, root: bytes, items: Iterable[tuple[bytes, bytes]]) -> None:
        identity = self._identity.encode()
        file.write(_HEADER.pack(_MAGIC, len(identity), crc32(identity)) + identity)
        checksum = 0
        buffer = bytearray(_HEAD.pack(seq, root))
        for key, value in items:
            buffer += _ITEM.pack(len(key), len(value))
            buffer += key
            buffer += value
            if len(buffer) >= _CHUNK:
                checksum = crc32(buffer, checksum)
                file.write(buffer)
                buffer.clear()
        checksum = crc32(buffer, checksum)
        file.write(bytes(buffer) + _ITEM.pack(_END, checksum))

    def _check(self, data: bytes, path: Path) -> int:
        """Where the body begins, after the checks of header and checksum."""
        if len(data) < _HEADER.size:
            raise DataDirectoryError(f"{path}: too short to be a snapshot")
        magic, length, checksum = _HEADER.unpack_from(data)
        body = _HEADER.size + int(length)
        identity = data[_HEADER.size : body]
        if magic != _MAGIC or len(identity) != length or crc32(identity) != checksum:
            raise DataDirectoryError(f"{path}: not a snapshot, or its header is damaged")
        self._identity.check(identity, path)
        end = len(data) - _ITEM.size
        if end < body + _HEAD.size or _ITEM.unpack_from(data, end) != (_END, crc32(memoryview(data)[body:end])):
            raise DataDirectoryError(f"{path}: the snapshot is damaged")
        return body


def _items(data: bytes, offset: int, path: Path) -> Iterator[tuple[bytes, bytes]]:
    end = len(data) - _ITEM.size
    while offset < end:
        key_length, value_length = _ITEM.unpack_from(data, offset)
        offset += _ITEM.size
        middle = offset + key_length
        after = middle + value_length
        if after > end:
            raise DataDirectoryError(f"{path}: a snapshot with a valid checksum is malformed")
        yield data[offset:middle], data[middle:after]
        offset = after
