"""A replica's data directory: locked by one process, begun by `init` alone, recovered at start.

`init` leaves the marker GENESIS, which the first start consumes.  A directory with neither marker nor log has lost
what the replica said: it starts as an amnesiac (`bft.core.rejoining`), and the marker LOST says so, durably and before
anything else is written, until a record in the log does.
"""

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bft.codec import Limits
from bft.config import Durability
from bft.core.effects import Record, Silenced, Spoke
from bft.core.messages import GENESIS as GENESIS_CERTIFICATE
from bft.core.messages import CheckpointCertificate
from bft.errors import DataDirectoryError, EnvironmentFailure
from bft.storage.fetched import FetchedNodes
from bft.storage.files import remove, touch
from bft.storage.log import FileLog, MemoryLog, RecordLog
from bft.storage.logfile import Identity
from bft.storage.records import decode_record, retained
from bft.storage.snapshot import SnapshotStore

GENESIS: Final = "GENESIS"
LOCK: Final = "LOCK"
LOST: Final = "LOST"


def begin(directory: Path) -> None:
    """Make an empty data directory for a replica that never ran; for `init`."""
    directory.mkdir(parents=True, mode=0o700)
    (directory / GENESIS).touch(mode=0o600)


class Lock:
    """Held as long as the process lives or until `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> Self:
        """Lock the directory.  Raises EnvironmentFailure, also when another process has it."""
        path = directory / LOCK
        try:
            if directory.parent.is_dir():
                directory.mkdir(mode=0o700, exist_ok=True)  # deleted: its replica lost what it said, and rejoins
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise EnvironmentFailure(f"{directory.parent}: no such directory; `bft cluster init` makes it") from error
        except OSError as error:
            raise EnvironmentFailure(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 16).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise EnvironmentFailure(
                f"{directory}: in use by process {holder}; one replica runs once: stop that process first"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where the replica stood."""

    records: Sequence[Record]  # in the order in which they were written
    certificate: CheckpointCertificate  # of the state in `items`
    items: Iterable[tuple[bytes, bytes]] | None  # to be read once; None: the empty state of genesis
    path: Path | None  # of the saved state
    first: bool = False  # the first start of all: nothing was ever said
    amnesiac: bool = False  # what was said is lost for certain

    def check_root(self, root: bytes) -> None:
        """Raises DataDirectoryError unless the restored state has the certified root."""
        if self.items is not None and root != self.certificate.root:
            raise DataDirectoryError(
                f"{self.path}: the saved state is damaged: its root is {root.hex()[:16]}, certified is "
                f"{self.certificate.root.hex()[:16]}: run `bft replica repair` to discard it and rejoin from the others"
            )


class DataDirectory:
    """Log and snapshots of one replica, locked; needs a running event loop."""

    def __init__(
        self,
        lock: Lock,
        log: RecordLog,
        snapshots: SnapshotStore | None,
        recovered: Recovered,
        fetched: FetchedNodes | None = None,
    ) -> None:
        self._lock = lock
        self.log = log
        self.snapshots = snapshots  # None: nothing is kept
        self.fetched = fetched  # as above
        self.recovered = recovered

    @classmethod
    def open(cls, path: Path, identity: Identity, durability: Durability, limits: Limits) -> "DataDirectory":
        """Lock, check and recover.  Raises EnvironmentFailure, DataDirectoryError or StorageFailure."""
        lock = Lock.acquire(path)
        try:
            return cls._open(lock, path, identity, durability, limits)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open(
        cls, lock: Lock, path: Path, identity: Identity, durability: Durability, limits: Limits
    ) -> "DataDirectory":
        marker = path / GENESIS
        first = marker.exists()
        if not FileLog.exists(path) and not first:
            touch(path / LOST)
        if durability is Durability.MEMORY:
            if FileLog.exists(path):
                raise DataDirectoryError(
                    f'{path}: holds a log, which durability = "memory" would ignore, and with it the votes that were '
                    'cast; set durability to "fsync" or "os"'
                )
            remove(marker)
            return cls(lock, MemoryLog(), None, Recovered((), GENESIS_CERTIFICATE, None, None, first, not first))
        sync = durability is Durability.FSYNC
        log, entries = FileLog.open(path, identity, retained, sync=sync)
        remove(marker)
        snapshots = SnapshotStore(path, identity, limits, sync=sync)
        records = [decode_record(entry, limits) for entry in entries]
        first = first and not records
        if any(isinstance(record, Silenced | Spoke) for record in records):
            remove(path / LOST)
        amnesiac = (path / LOST).exists()
        saved = snapshots.load()
        if saved is None or saved.certificate.seq < log.truncated:
            if log.truncated:
                raise DataDirectoryError(
                    f"{path}: the saved state of {log.truncated} or later is lost: run `bft replica repair` to rejoin "
                    "from the others"
                )
            genesis = Recovered(records, GENESIS_CERTIFICATE, None, None, first, amnesiac)
            return cls(lock, log, snapshots, genesis, FetchedNodes(path))
        certificate = saved.certificate
        kept = retained([(entry.type, entry.seq) for entry in entries], certificate.seq)
        recovered = Recovered(
            [records[i] for i in kept], certificate, saved.items, snapshots.path, first=first, amnesiac=amnesiac
        )
        return cls(lock, log, snapshots, recovered, FetchedNodes(path))

    async def close(self) -> None:
        """Write what waits and unlock."""
        await self.log.close()
        if self.snapshots is not None:
            self.snapshots.close()
        if self.fetched is not None:
            self.fetched.close()
        self._lock.release()
