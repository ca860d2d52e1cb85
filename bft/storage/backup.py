"""Backups: the state of one stable checkpoint in a file, with the certificate that proves it, verifiable offline.

    header   "bft-back", u32 format version, u32 length of the certificate, the certificate: the body of the frame
             STABLE-CHECKPOINT; empty in the file that a restored cluster begins with, whose root cluster.toml names
    item     u32 length of the key, u32 length of the value, key, value; in the order of their paths in the tree
    end      u32 0xFFFFFFFF, u32 CRC of everything before it

Integers are big endian.  The checksum says where a file is damaged by accident; what proves it is the Merkle root.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from bft.auth import Authenticator
from bft.codec import Limits, MessageType
from bft.config import ClusterConfig
from bft.core.messages import CheckpointCertificate, StableCheckpoint
from bft.core.quorum import Quorums
from bft.errors import DataDirectoryError, InvalidMessage, VerificationFailed
from bft.statemachine.trie import MerkleTrie
from bft.storage.files import sync_directory

FORMAT_VERSION: Final = 1
_MAGIC: Final = b"bft-back"
_HEADER: Final = struct.Struct(">8sII")
_ITEM: Final = struct.Struct(">II")
_END: Final = 0xFFFFFFFF
_CHUNK: Final = 256 << 10
_ITEM_BYTES_MAX: Final = 1 << 30  # of a key or a value: no state has such


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup whose certificate and content are proven."""

    certificate: CheckpointCertificate
    state: MerkleTrie


def open_certificate(body: bytes, config: ClusterConfig) -> CheckpointCertificate:
    """A certificate that a quorum of the cluster's replicas signed.  Raises VerificationFailed."""
    authenticator = Authenticator(config.domain, config.replica_keys, Limits.of(config.parameters))
    try:
        message = authenticator.open_peer(0, MessageType.STABLE_CHECKPOINT, body)
    except InvalidMessage as error:
        raise VerificationFailed(f"the certificate is not one of {config.cluster}: {error}") from error
    if not isinstance(message, StableCheckpoint) or not Quorums.of(len(config.replicas)).proves_stable(
        message.certificate
    ):
        raise VerificationFailed("the certificate lacks a quorum of equal checkpoints")
    return message.certificate


def write(path: Path, certificate: bytes, items: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a backup, complete and durable or not at all; its bytes.  Raises OSError, also when `path` exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            size = _write(file, certificate, items)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename it never replaces what is there
        sync_directory(path.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def verify(path: Path, config: ClusterConfig) -> Backup:
    """The backup in a file, proven with nothing but the public keys of `config`.  Raises VerificationFailed."""
    with path.open("rb") as file:
        reader = _Reader(file, path)
        certificate = open_certificate(reader.certificate, config)
        state = MerkleTrie().update(dict(reader.items()))
    if state.root != certificate.root:
        raise VerificationFailed(
            f"{path}: its content has root {state.root.hex()[:16]}, the certificate says {certificate.root.hex()[:16]}"
        )
    return Backup(certificate, state)


def write_genesis(path: Path, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write the state that a restored cluster begins with."""
    write(path, b"", items)


def read_genesis(path: Path) -> dict[bytes, bytes]:
    """Its content, to be compared with the root that cluster.toml names.  Raises DataDirectoryError."""
    try:
        with path.open("rb") as file:
            return dict(_Reader(file, path).items())
    except OSError as error:
        raise DataDirectoryError(f"{path}: {error.strerror}: cluster.toml names a genesis_root") from error
    except VerificationFailed as error:
        raise DataDirectoryError(str(error)) from error


def _write(file: BinaryIO, certificate: bytes, items: Iterable[tuple[bytes, bytes]]) -> int:
    checksum, size = 0, 0
    buffer = bytearray(_HEADER.pack(_MAGIC, FORMAT_VERSION, len(certificate)) + certificate)
    for key, value in items:
        buffer += _ITEM.pack(len(key), len(value))
        buffer += key
        buffer += value
        if len(buffer) >= _CHUNK:
            checksum = crc32(buffer, checksum)
            size += file.write(buffer)
            buffer.clear()
    checksum = crc32(buffer, checksum)
    return size + file.write(bytes(buffer) + _ITEM.pack(_END, checksum))


class _Reader:
    """Reads the file from its beginning; nothing that it says is believed before it was read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._checksum = 0
        magic, version, length = _HEADER.unpack(self._take(_HEADER.size))
        if magic != _MAGIC:
            raise VerificationFailed(f"{path}: not a backup")
        if version != FORMAT_VERSION:
            raise VerificationFailed(f"{path}: written in format {version}, this version reads {FORMAT_VERSION}")
        self.certificate = self._take(length)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            before = self._checksum
            key_length, value_length = _ITEM.unpack(self._take(_ITEM.size))
            if key_length == _END:
                if value_length != before or self._file.read(1):
                    raise VerificationFailed(f"{self._path}: the file is damaged: its checksum does not match")
                return
            yield self._take(key_length), self._take(value_length)

    def _take(self, length: int) -> bytes:
        if length > _ITEM_BYTES_MAX or len(data := self._file.read(length)) != length:
            raise VerificationFailed(f"{self._path}: the file is damaged: it ends too early")
        self._checksum = crc32(data, self._checksum)
        return data
