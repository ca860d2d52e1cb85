"""The saved state: all items of one stable checkpoint in LMDB, and the certificate that proves them.

    head     "head": u32 CRC of the rest; u32 format version, u64 seq, 32 bytes Merkle root, u64 items, u32 replica,
             u32 length of the cluster's name, the name, the certificate as in the log
    items    SHA-256 of the key: u32 length of the key, key, value

A save writes what changed since the last one, in one synced transaction: after a crash there is the state before it or
the state after it, each with its own certificate.  Whoever loads the items compares their root with the certified one,
for LMDB's pages have no checksums.  Integers are big endian.
"""

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import lmdb

from bft.codec import Limits
from bft.core.effects import Stable
from bft.core.invariants import invariant
from bft.core.messages import CheckpointCertificate
from bft.errors import DataDirectoryError, ForeignDataError, StorageFailure
from bft.storage import probe, rot
from bft.storage.files import sync_directory
from bft.storage.logfile import Identity
from bft.storage.records import Entry, RecordType, decode_record, encode_record

FORMAT_VERSION: Final = 1
STATE: Final = "state"
_REWRITTEN: Final = "state.tmp"  # beside it: one that is to take its place
_OLD_FORMAT: Final = "snapshot-*"  # one file a snapshot, before this format
_HEAD_KEY: Final = b"head"
_CHECKSUM: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IQ32sQII")
_KEY_LENGTH: Final = struct.Struct(">I")
_MAP_BYTES: Final = 64 << 20  # of address space at first; doubled as needed, the file grows with what is in it
_REPAIR: Final = "run `bft replica repair` to discard it and rejoin from the others"


@dataclass(frozen=True, slots=True)
class Saved:
    """What is saved: the content is read when it is iterated over, once, before anything else is saved."""

    certificate: CheckpointCertificate
    items: Iterable[tuple[bytes, bytes]]  # in the order of their paths; not compared with the certified root yet


class SnapshotStore:
    """The saved state in a data directory.  Methods block and are for one thread at a time: `save` for its own."""

    def __init__(
        self, directory: Path, identity: Identity, limits: Limits, *, sync: bool = True, name: str = STATE
    ) -> None:
        """Open or create.  Raises DataDirectoryError or StorageFailure."""
        self.path: Final = directory / name
        self._identity = identity
        self._limits = limits
        self._sync = sync
        self._root: bytes | None = None  # of what is saved; None: nothing is, or it was not loaded
        self._head = b""  # of it
        self._reader: subprocess.Popen[str] | None = None  # of a verification that is under way
        if any(directory.glob(_OLD_FORMAT)):
            raise DataDirectoryError(f"{directory}: holds snapshots in the format of an older version: {_REPAIR}")
        shutil.rmtree(directory / _REWRITTEN, ignore_errors=True)
        self._open(check=True)

    def _open(self, *, check: bool) -> None:
        """With `check`, first see whether it can be read.  Raises DataDirectoryError or StorageFailure."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            file = self.path / "data.mdb"
            size = file.stat().st_size if file.exists() else 0
            if check and size and (what := probe.damage(self.path)) is not None:
                raise self._damaged(what)
            # One process at a time has the directory (its LOCK), and one thread at a time this object: no lock file.
            self._env: Any = lmdb.open(
                str(self.path),
                map_size=max(_MAP_BYTES, size),
                max_dbs=2,
                mode=0o600,
                sync=self._sync,
                metasync=self._sync,
                lock=False,
                readahead=False,
            )
        except OSError as error:
            raise StorageFailure(f"{self.path}: {error.strerror}: the replica stops; repair the disk") from error
        except lmdb.Error as error:
            raise self._failure(error) from error
        try:
            self._heads = self._env.open_db(b"head")
            self._items = self._env.open_db(b"items")
            sync_directory(self.path)
            sync_directory(self.path.parent)
        except (OSError, lmdb.Error) as error:
            self._env.close()
            raise self._failure(error) from error

    def load(self) -> Saved | None:
        """What is saved, if anything is.  Raises DataDirectoryError, also while the items are read."""
        with self._reading() as transaction:
            head = transaction.get(_HEAD_KEY, db=self._heads)
            entries = transaction.stat(self._items)["entries"]
        if head is None:
            if entries:
                raise self._damaged("items without a head")
            return None
        certificate, count = self._check(head)
        if count != entries:
            raise self._damaged(f"{entries} items where {count} were saved")
        self._root, self._head = certificate.root, bytes(head)
        return Saved(certificate, self._read_items())

    def save(
        self,
        certificate: CheckpointCertificate,
        changes: Callable[[], Iterable[tuple[bytes, bytes | None]]],
        *,
        since: bytes | None,
    ) -> None:
        """Bring what is saved from the state of root `since` (None: from nothing) to the certified one, durably.

        `changes` gives each key with its new value (None: it is gone), the same at every call.  Raises StorageFailure.
        """
        invariant(since is None or since == self._root, "a saved state is brought up to date from another one")
        while True:
            try:
                head = self._write(certificate, changes(), replace=since is None)
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise self._failure(error) from error
            else:
                self._root, self._head = certificate.root, head
                return

    def verify(self) -> str | None:
        """Read everything from the disk again: what is wrong with it, None if it has the root of what was saved.

        Takes as long as that takes, in another process, or until `interrupt`.  What is damaged stays closed, to be
        written anew.  Raises StorageFailure.
        """
        if self._root is None:
            return None
        self._env.close()  # pages that a process maps stay in memory, and would be read there
        try:
            self._reader = rot.begin(self.path, self._root, self._head)
            what = rot.outcome(self._reader)
        except OSError as error:
            raise StorageFailure(f"{self.path}: {error.strerror}: the replica stops; repair the disk") from error
        finally:
            self._reader = None
        if what is None:
            self._open(check=False)
        return what

    def interrupt(self) -> None:
        """End a verification that is under way in another thread; what it says then is of no meaning."""
        reader = self._reader
        if reader is not None:
            reader.kill()

    def rewrite(
        self, certificate: CheckpointCertificate, items: Callable[[], Iterable[tuple[bytes, bytes | None]]]
    ) -> None:
        """Save all `items` anew, in a file that takes the place of the damaged one once it is durable.

        Raises StorageFailure.
        """
        directory = self.path.parent
        fresh = SnapshotStore(directory, self._identity, self._limits, sync=self._sync, name=_REWRITTEN)
        fresh.save(certificate, items, since=None)
        fresh.close()
        self._env.close()
        try:
            (fresh.path / "data.mdb").replace(self.path / "data.mdb")
            sync_directory(self.path)
            shutil.rmtree(fresh.path)
        except OSError as error:
            raise StorageFailure(f"{self.path}: {error.strerror}: the replica stops; repair the disk") from error
        self._open(check=False)
        self._root, self._head = fresh._root, fresh._head

    def close(self) -> None:
        self._env.close()

    def _write(
        self, certificate: CheckpointCertificate, changes: Iterable[tuple[bytes, bytes | None]], *, replace: bool
    ) -> bytes:
        """The head that was written."""
        with self._env.begin(write=True, db=self._items) as transaction:
            if replace:
                transaction.drop(self._items, delete=False)
            put, delete = transaction.put, transaction.delete
            for key, value in changes:
                if value is None:
                    delete(sha256(key).digest())
                else:
                    put(sha256(key).digest(), _KEY_LENGTH.pack(len(key)) + key + value)
            count = transaction.stat(self._items)["entries"]
            head = self._encode_head(certificate, count)
            transaction.put(_HEAD_KEY, head, db=self._heads)
        return head

    def _grow(self) -> None:
        try:
            self._env.set_mapsize(2 * self._env.info()["map_size"])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def _encode_head(self, certificate: CheckpointCertificate, count: int) -> bytes:
        cluster = self._identity.cluster.encode()
        head = _HEAD.pack(
            FORMAT_VERSION, certificate.seq, certificate.root, count, self._identity.replica, len(cluster)
        )
        rest = head + cluster + encode_record(Stable(certificate)).payload
        return _CHECKSUM.pack(crc32(rest)) + rest

    def _check(self, head: bytes) -> tuple[CheckpointCertificate, int]:
        """The certificate and the number of items that the head says.  Raises DataDirectoryError."""
        rest = head[_CHECKSUM.size :]
        if len(rest) < _HEAD.size or head[: _CHECKSUM.size] != _CHECKSUM.pack(crc32(rest)):
            raise self._damaged("the checksum of its head does not match")
        version, seq, root, count, replica, length = _HEAD.unpack_from(rest)
        if version != FORMAT_VERSION:
            raise ForeignDataError(
                f"{self.path}: written in format {version}, this version reads {FORMAT_VERSION}: run the one that wrote"
                " it"
            )
        cluster = rest[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace")
        if (cluster, replica) != (self._identity.cluster, self._identity.replica):
            raise ForeignDataError(  # the log was read before, and is ours
                f"{self.path}: belongs to replica {replica} of cluster {cluster}, not to replica "
                f"{self._identity.replica} of {self._identity.cluster}, whose log is beside it: put its own state "
                "back, or run `bft replica repair --force` to set both aside and rejoin from the others"
            )
        record = decode_record(Entry(RecordType.STABLE, seq, rest[_HEAD.size + length :]), self._limits)
        if not isinstance(record, Stable) or (record.certificate.seq, record.certificate.root) != (seq, root):
            raise self._damaged("its certificate is of another state")
        return record.certificate, count

    def _read_items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._reading() as transaction:
            for path, item in transaction.cursor(db=self._items):
                end = _KEY_LENGTH.size + int.from_bytes(item[: _KEY_LENGTH.size])
                if end > len(item):
                    raise self._damaged(f"item {path.hex()[:16]} is malformed")
                yield item[_KEY_LENGTH.size : end], item[end:]

    def _reading(self) -> "_Reading":
        return _Reading(self._env, self._failure)

    def _damaged(self, what: str) -> DataDirectoryError:
        return DataDirectoryError(f"{self.path}: the saved state is damaged: {what}: {_REPAIR}")

    def _failure(self, error: Exception) -> DataDirectoryError | StorageFailure:
        """LMDB's error as ours: its file is wrong, or the disk is."""
        if isinstance(error, _DAMAGE):
            return self._damaged(str(error))
        return StorageFailure(f"{self.path}: {error}: the replica stops; free or repair the disk")


_DAMAGE: Final = (
    lmdb.BadDbiError,
    lmdb.BadTxnError,
    lmdb.BadValsizeError,
    lmdb.CorruptedError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.MapResizedError,  # its file claims pages beyond its end
    lmdb.PageFullError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


class _Reading:
    """A read transaction whose errors are ours."""

    def __init__(self, env: Any, failure: Callable[[lmdb.Error], DataDirectoryError | StorageFailure]) -> None:
        self._env = env
        self._failure = failure

    def __enter__(self) -> Any:
        try:
            self._transaction = self._env.begin()
        except lmdb.Error as error:
            raise self._failure(error) from error
        return self._transaction

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._transaction.abort()
        if isinstance(error, lmdb.Error):
            raise self._failure(error) from error
