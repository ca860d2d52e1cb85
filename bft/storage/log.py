"""The append-only log: one writer thread, one fdatasync for everything that waits (group commit).

A log is one file at a time.  When enough of it is covered by a stable checkpoint, what is still needed is written to
a fresh file of the next generation, synced and put in place before the old one goes: at every instant the highest
generation is complete.  Issue 4 replaces the file by pre-allocated segments behind the same interface.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeAlias

from bft.errors import StorageFailure
from bft.storage.files import sync_directory, write_fully
from bft.storage.logfile import Identity, Position, encode_group, encode_header, read_content
from bft.storage.records import Entry

ROLL_BYTES: Final = 16 << 20
_PREFIX: Final = "log-"
_TEMPORARY: Final = ".tmp"

Retention: TypeAlias = Callable[[Sequence[tuple[int, int]], int], list[int]]


class RecordLog(Protocol):
    """Where the records of a round go before anything of the round is sent."""

    syncs: int  # group commits so far
    sync_ns: int  # time they took in all
    bytes_written: int

    def append(self, entries: Sequence[Entry]) -> "asyncio.Future[None]":
        """Write; the future is done when the entries are as durable as promised, in the order of the calls.

        It fails with StorageFailure, and so does everything after it: what is on disk is then unknown.
        """
        ...

    def truncate(self, seq: int) -> None:
        """Entries that the retention rule gives up at `seq` are no longer needed."""
        ...

    async def close(self) -> None:
        """Write what waits and stop."""
        ...


class MemoryLog:
    """`durability = "memory"`: remembers nothing."""

    syncs = 0
    sync_ns = 0
    bytes_written = 0

    def append(self, entries: Sequence[Entry]) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def truncate(self, seq: int) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class _Job:
    """Something for the writer thread: entries to append, or a truncation, or (neither) to stop."""

    entries: Sequence[Entry] = ()
    truncated: int | None = None
    done: "asyncio.Future[None] | None" = None


@dataclass(slots=True)
class _File:
    """The file being written; of the writer thread alone."""

    path: Path
    generation: int
    descriptor: int
    truncated: int  # sequence numbers up to here may be missing
    salt: int
    size: int
    groups: int
    positions: list[Position] = field(default_factory=list)


class FileLog:
    """A log in a directory; `open` also gives what it holds."""

    def __init__(self, file: _File, identity: Identity, retention: Retention, *, sync: bool, roll_bytes: int) -> None:
        self._file = file
        self.truncated = file.truncated  # as it was opened: what is about lower sequence numbers may be missing
        self._identity = identity
        self._retention = retention
        self._sync = sync
        self.syncs = 0  # group commits so far; written by the writer thread, read for metrics
        self.sync_ns = 0  # time they took in all
        self.bytes_written = 0
        self._roll_bytes = roll_bytes
        self._next_roll = roll_bytes
        self._loop = asyncio.get_running_loop()
        self._failure: StorageFailure | None = None
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_jobs, name="log", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        identity: Identity,
        retention: Retention,
        *,
        sync: bool = True,
        roll_bytes: int = ROLL_BYTES,
    ) -> "tuple[FileLog, list[Entry]]":
        """Open the log in `directory`, or begin one, and read it back; a torn tail is cut off.

        Raises DataDirectoryError for a damaged or foreign file, StorageFailure when the disk fails.
        """
        try:
            file, entries = _open_file(directory, identity)
        except OSError as error:
            raise StorageFailure(f"{error.filename or directory}: {error.strerror}") from error
        return cls(file, identity, retention, sync=sync, roll_bytes=roll_bytes), entries

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether `directory` holds a log."""
        return bool(_generations(directory))

    def append(self, entries: Sequence[Entry]) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = self._loop.create_future()
        if self._failure is not None:
            done.set_exception(self._failure)
        else:
            self._jobs.put(_Job(entries, done=done))
        return done

    def truncate(self, seq: int) -> None:
        self._jobs.put(_Job(truncated=seq))

    async def close(self) -> None:
        if self._thread.is_alive():
            self._jobs.put(_Job())
            await self._loop.run_in_executor(None, self._thread.join)

    # --- in the writer thread

    def _write_jobs(self) -> None:
        stopping = False
        while not stopping:
            jobs = [self._jobs.get()]
            try:
                while True:
                    jobs.append(self._jobs.get_nowait())
            except Empty:
                pass
            stopping = any(not job.entries and job.done is None and job.truncated is None for job in jobs)
            done = [job.done for job in jobs if job.done is not None]
            try:
                self._commit([entry for job in jobs for entry in job.entries])
                self._report(done, None)
                done = []
                self._truncate(max((job.truncated for job in jobs if job.truncated is not None), default=None))
            except OSError as error:
                # Never retried: after a failed sync nobody knows what of the file is on disk.
                failure = StorageFailure(
                    f"{self._file.path}: {error.strerror}: the replica stops; free or repair the disk"
                )
                self._report(done, failure)
                stopping = True
        os.close(self._file.descriptor)

    def _commit(self, entries: list[Entry]) -> None:
        if not entries:
            return
        file = self._file
        data, positions = encode_group(file.groups, entries, file.size, file.salt)
        began = time.monotonic_ns()
        write_fully(file.descriptor, data)
        if self._sync:
            os.fdatasync(file.descriptor)
        self.sync_ns += time.monotonic_ns() - began
        self.syncs += 1
        self.bytes_written += len(data)
        file.groups += 1
        file.size += len(data)
        file.positions += positions

    def _truncate(self, seq: int | None) -> None:
        if seq is None or self._file.size < self._next_roll:
            return
        old = self._file
        kept = self._retention([(position.type, position.seq) for position in old.positions], seq)
        with old.path.open("rb") as reader:
            entries = []
            for position in (old.positions[index] for index in kept):
                reader.seek(position.offset)
                entries.append(Entry(position.type, position.seq, reader.read(position.length)))
        self._file = _begin_file(old.path.parent, old.generation + 1, seq, self._identity, entries)
        self._next_roll = self._file.size + self._roll_bytes
        os.close(old.descriptor)
        old.path.unlink()

    def _report(self, done: "list[asyncio.Future[None]]", failure: StorageFailure | None) -> None:
        if done or failure is not None:
            try:
                self._loop.call_soon_threadsafe(self._resolve, done, failure)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    # --- in the loop's thread

    def _resolve(self, done: "list[asyncio.Future[None]]", failure: StorageFailure | None) -> None:
        if failure is not None:
            self._failure = failure
            # Jobs queued behind the one that failed: the thread is gone.
            try:
                while True:
                    job = self._jobs.get_nowait()
                    if job.done is not None:
                        done.append(job.done)
            except Empty:
                pass
        for future in done:
            if future.cancelled():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)


def _generations(directory: Path) -> list[tuple[int, Path]]:
    """The log's files in ascending order."""
    return sorted(
        (int(path.name.removeprefix(_PREFIX)), path)
        for path in directory.glob(f"{_PREFIX}*")
        if path.name.removeprefix(_PREFIX).isdecimal()
    )


def _open_file(directory: Path, identity: Identity) -> tuple[_File, list[Entry]]:
    for leftover in directory.glob(f"{_PREFIX}*{_TEMPORARY}"):
        leftover.unlink()
    generations = _generations(directory)
    if not generations:
        return _begin_file(directory, 1, 0, identity, ()), []
    # The highest is complete, whatever the ones below hold: see the module's docstring.
    generation, path = generations[-1]
    data = path.read_bytes()
    content = read_content(data, identity, path)
    for _, superseded in generations[:-1]:
        superseded.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    if content.size < len(data):
        os.ftruncate(descriptor, content.size)
        os.fsync(descriptor)
    entries = [Entry(p.type, p.seq, data[p.offset : p.offset + p.length]) for p in content.positions]
    file = _File(
        path,
        generation,
        descriptor,
        content.truncated,
        content.salt,
        content.size,
        content.groups,
        content.positions,
    )
    return file, entries


def _begin_file(
    directory: Path, generation: int, truncated: int, identity: Identity, entries: Iterable[Entry]
) -> _File:
    """A new file that holds `entries`, complete and durable before it gets its name."""
    path = directory / f"{_PREFIX}{generation:010}"
    temporary = path.with_name(path.name + _TEMPORARY)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    salt = int.from_bytes(os.urandom(4), "big")
    header = encode_header(identity, truncated, salt)
    group, positions = encode_group(0, entries, len(header), salt)
    data = header + group
    write_fully(descriptor, data)
    os.fsync(descriptor)
    temporary.rename(path)
    sync_directory(directory)
    return _File(path, generation, descriptor, truncated, salt, len(data), 1, positions)
