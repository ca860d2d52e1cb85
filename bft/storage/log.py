"""The append-only log: one fdatasync for everything that waits (group commit), mostly in a writer thread.

Two changes of thread cost more than a sync on a fast disk.  So who has nothing else to do meanwhile may have its
entries written in its own thread; the writer thread has nothing in hand then, and one thread at a time has the files.

The log is a sequence of segments of one size, which are zeros on disk before they are used, so that a commit overwrites
what has its place already: no file grows, and a sync has no metadata to write.  When a stable checkpoint covers enough
of the oldest segments, what is still needed of them is carried over into a base, and they are used again
(`bft.storage.segments`; the format is `bft.storage.logfile`'s).
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeAlias

from bft.errors import StorageFailure
from bft.storage import files, segments
from bft.storage.logfile import GroupKind, Identity, Position
from bft.storage.records import Entry
from bft.storage.segments import Found, Reserve

SEGMENT_BYTES: Final = 4 << 20
# A seal shows that the groups before it were on disk: without one, damage to the last group would look like a torn
# write.  It is written when nothing else was for this long: longer than one operation takes, so that under load it
# costs nothing, one caller's included, whose next operation would seal just as well.
SEAL_AFTER_S: Final = 0.05
CLOSED_MIN: Final = 3  # segments, before it is worth to look which of them can go
# Where a sync takes longer than this, and until we know how long it takes, all are the writer thread's.
INLINE_SYNC_NS_MAX: Final = 500_000
_FORGET: Final = 16  # how fast the estimate follows slower syncs: the thread's often waited for the interpreter instead

Retention: TypeAlias = Callable[[Sequence[tuple[int, int]], int], list[int]]


class RecordLog(Protocol):
    """Where the records of a round go before anything of the round is sent."""

    syncs: int  # group commits so far
    sync_ns: int  # time they took in all
    bytes_written: int
    failed: "asyncio.Future[StorageFailure]"  # done when the log can no longer be written, whoever waits for what

    def append(self, entries: Sequence[Entry], *, idle: bool = False) -> "asyncio.Future[None]":
        """Write; the future is done when the entries are as durable as promised, in the order of the calls.

        It fails with StorageFailure, and so does everything after it: what is on disk is then unknown.  A caller that
        has nothing else to do meanwhile is `idle`: the future may then be done on return.
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

    def __init__(self) -> None:
        self.failed: asyncio.Future[StorageFailure] = asyncio.get_running_loop().create_future()

    def append(self, entries: Sequence[Entry], *, idle: bool = False) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def truncate(self, seq: int) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class _Job:
    """Something for the writer thread: entries to append, a truncation, a seal, or to stop."""

    entries: Sequence[Entry] = ()
    truncated: int | None = None
    done: "asyncio.Future[None] | None" = None
    seals: bool = False  # nothing was written for a while
    stops: bool = False


class FileLog:
    """A log in a directory; `open` also gives what it holds."""

    def __init__(self, found: Found, reserve: Reserve, identity: Identity, retention: Retention, *, sync: bool) -> None:
        self._base = found.base
        self._closed = found.closed
        self._active = found.active
        self._reserve = reserve
        self._next = reserve.have(found.following) if found.following else reserve.prepare(found.active.number + 1)
        self._sealed = not found.active.groups
        self._identity = identity
        self._retention = retention
        self._sync = sync
        self.truncated = found.base.truncated  # as it was opened: what is about lower numbers may be missing
        self.syncs = 0  # group commits so far; read for metrics
        self.sync_ns = 0  # time they took in all
        self.bytes_written = 0
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[StorageFailure] = self._loop.create_future()
        self._sync_estimate_ns = INLINE_SYNC_NS_MAX  # of the disk's share
        self._in_hand = 0  # jobs that the writer thread has not finished; with none, the loop's thread may write
        self._written_ns = 0  # when something was last asked for, monotonic
        self._seal_timer: asyncio.TimerHandle | None = None
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
        segment_bytes: int = SEGMENT_BYTES,
    ) -> "tuple[FileLog, list[Entry]]":
        """Open the log in `directory`, or begin one, and read it back; a torn tail is cut off.

        Raises DataDirectoryError for a damaged or foreign file, StorageFailure when the disk fails.
        """
        try:
            found = segments.find(directory, identity, segment_bytes, sync=sync)
            reserve = Reserve(directory, identity, segment_bytes)
        except OSError as error:
            raise StorageFailure(f"{error.filename or directory}: {error.strerror}") from error
        return cls(found, reserve, identity, retention, sync=sync), found.entries

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether `directory` holds a log, or parts of one."""
        return any(segments.numbered(directory, prefix) for prefix in (segments.BASE, segments.SEGMENT))

    def append(self, entries: Sequence[Entry], *, idle: bool = False) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = self._loop.create_future()
        if self.failed.done():
            done.set_exception(self.failed.result())
        elif idle and self._may_write_inline(entries):
            self._write_inline(entries, done)
        else:
            self._hand_over(_Job(entries, done=done))
        self._seal_later()
        return done

    def truncate(self, seq: int) -> None:
        if not self.failed.done():
            self._hand_over(_Job(truncated=seq))

    async def close(self) -> None:
        if self._seal_timer is not None:
            self._seal_timer.cancel()
        if self._thread.is_alive():
            self._hand_over(_Job(stops=True))
            await self._loop.run_in_executor(None, self._thread.join)

    # --- in the loop's thread

    def _hand_over(self, job: _Job) -> None:
        self._in_hand += 1
        self._jobs.put(job)

    def _may_write_inline(self, entries: Sequence[Entry]) -> bool:
        """It is fast, in its turn, and there is room for it: to wait for the next segment is the writer thread's."""
        return (
            not self._in_hand
            and self._sync_estimate_ns < INLINE_SYNC_NS_MAX
            and self._active.fitting(entries) == len(entries)
        )

    def _write_inline(self, entries: Sequence[Entry], done: "asyncio.Future[None]") -> None:
        try:
            self._commit(entries)
        except OSError as error:
            self._resolve([done], self._failure(error), 0)
            self._hand_over(_Job(stops=True))
        else:
            done.set_result(None)

    def _seal_later(self) -> None:
        self._written_ns = time.monotonic_ns()
        if self._seal_timer is None:
            self._seal_timer = self._loop.call_later(SEAL_AFTER_S, self._seal_if_quiet)

    def _seal_if_quiet(self) -> None:
        self._seal_timer = None
        if self.failed.done():
            return
        quiet_s = (time.monotonic_ns() - self._written_ns) / 1e9
        if quiet_s < SEAL_AFTER_S or self._in_hand:
            wait_s = SEAL_AFTER_S if self._in_hand else SEAL_AFTER_S - quiet_s
            self._seal_timer = self._loop.call_later(wait_s, self._seal_if_quiet)
        elif not self._sealed:
            self._hand_over(_Job(seals=True))

    # --- in the writer thread, or in the loop's while the writer thread has nothing in hand

    def _write_jobs(self) -> None:
        stopping = False
        while not stopping:
            jobs = self._take_jobs()
            stopping = any(job.stops for job in jobs)
            done = [job.done for job in jobs if job.done is not None]
            truncated = max((job.truncated for job in jobs if job.truncated is not None), default=None)
            seals = stopping or all(job.seals for job in jobs)
            finished = 0
            try:
                self._commit([entry for job in jobs for entry in job.entries])
                if truncated is None and not seals:
                    finished = len(jobs)
                self._report(done, None, finished)
                done = []
                self._truncate(truncated)
                if seals and not self._sealed and not self.failed.done():
                    self._write(GroupKind.SEAL)
                if not finished:
                    self._report(done, None, len(jobs))
            except OSError as error:
                self._report(done, self._failure(error), len(jobs) - finished)
                stopping = True
        os.close(self._active.descriptor)
        self._reserve.close()
        if self._next.exception() is None:
            os.close(self._next.result().descriptor)

    def _take_jobs(self) -> list[_Job]:
        """All that wait, at least one."""
        jobs = [self._jobs.get()]
        try:
            while True:
                jobs.append(self._jobs.get_nowait())
        except Empty:
            return jobs

    def _failure(self, error: OSError) -> StorageFailure:
        """Never retried: after a failed sync nobody knows what of the file is on disk."""
        return StorageFailure(
            f"{error.filename or self._active.path}: {error.strerror}: the replica stops; free or repair the disk, "
            "then start it again"
        )

    def _commit(self, entries: Sequence[Entry]) -> None:
        while entries:
            fitting = self._active.fitting(entries)
            if fitting:
                self._write(GroupKind.DATA, entries[:fitting])
                entries = entries[fitting:]
            else:
                self._go_on_in_next_segment()

    def _write(self, kind: GroupKind, entries: Sequence[Entry] = ()) -> None:
        began = time.monotonic_ns()
        self.bytes_written += self._active.write(kind, entries, sync=self._sync)
        took_ns = time.monotonic_ns() - began
        self.sync_ns += took_ns
        self.syncs += 1
        slower_ns = took_ns - self._sync_estimate_ns
        self._sync_estimate_ns += slower_ns if slower_ns < 0 else slower_ns // _FORGET
        self._sealed = kind != GroupKind.DATA
        following = self._next
        if following.done() and (error := following.exception()) is not None and not segments.is_no_room(error):
            raise error  # the disk fails; that the next segment has no room is no harm before it is needed

    def _go_on_in_next_segment(self) -> None:
        following = self._next.result()
        self._write(GroupKind.END)
        os.close(self._active.descriptor)
        self._closed.append(self._active)
        self._active = following
        self._next = self._reserve.prepare(following.number + 1)

    def _truncate(self, seq: int | None) -> None:
        """Let the oldest segments go of which most is no longer needed; the rest of them is carried over.

        Each part is asked for by itself: what a later one makes needless is then carried over once more, which is safe,
        and a checkpoint costs the oldest segments, not the whole log.
        """
        if seq is None or len(self._closed) < CLOSED_MIN:
            return
        kept = [self._kept(self._base.positions, seq)]
        needed = _length(kept[0])
        held = 0
        for segment in self._closed:  # sequence numbers grow: behind one that is needed there is none to give up
            positions = self._kept(segment.positions, seq)
            needed += _length(positions)
            held += segment.size
            if 2 * needed > held:
                break
            kept.append(positions)
        count = len(kept) - 1
        if not count:
            return
        old, superseded = self._base, self._closed[:count]
        paths = [old.path, *(segment.path for segment in superseded)]
        entries = [entry for path, part in zip(paths, kept, strict=True) for entry in segments.read_entries(path, part)]
        following = (*self._closed, self._active)[count]
        self._base = segments.make_base(old.path.parent, self._identity, following.number, seq, entries)
        # Only now, when it is carried over for certain.
        self._closed = self._closed[count:]
        files.unlink(old.path)
        self._reserve.recycle(paths[1:])
        if self._next.done() and self._next.exception() is not None:
            self._next = self._reserve.prepare(self._active.number + 1)  # there was no room for it; now there is

    def _kept(self, positions: Sequence[Position], seq: int) -> list[Position]:
        return [positions[index] for index in self._retention([(p.type, p.seq) for p in positions], seq)]

    def _report(self, done: "list[asyncio.Future[None]]", failure: StorageFailure | None, finished: int) -> None:
        if done or finished or failure is not None:
            try:
                self._loop.call_soon_threadsafe(self._resolve, done, failure, finished)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    # --- in the loop's thread again

    def _resolve(self, done: "list[asyncio.Future[None]]", failure: StorageFailure | None, finished: int) -> None:
        self._in_hand -= finished
        if failure is not None:
            self.failed.set_result(failure)
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


def _length(positions: Iterable[Position]) -> int:
    return sum(position.length for position in positions)
