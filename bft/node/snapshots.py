"""Snapshots are written beside the protocol, one at a time, the latest wanted first."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import structlog

from bft.core.messages import Digest, Seq
from bft.storage.snapshot import SnapshotStore

# After a snapshot the writer rests this many times as long as it took: however large the state is, writing it takes
# at most a fifth of one core.  What waits meanwhile is only the truncation of the log on disk.
_REST: Final = 4.0
_log = structlog.get_logger()


class _Wanted(NamedTuple):
    seq: Seq
    root: Digest
    items: Iterable[tuple[bytes, bytes]]  # pinned: stays valid whatever is executed meanwhile


class SnapshotWriter:
    """Writes what the core asks for; `on_saved` hears of each that is durable."""

    def __init__(self, store: SnapshotStore | None, on_saved: Callable[[Seq], None]) -> None:
        self._store = store
        self._on_saved = on_saved
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._wanted: _Wanted | None = None
        self._prunable: Seq | None = None
        self._asked = asyncio.Event()
        self._saved: list[Seq] = []  # on disk, ascending; those below the truncation are dropped

    def recovered(self, seq: Seq) -> None:
        """The snapshot at `seq` is there from before the start."""
        self._saved.append(seq)

    def want(self, seq: Seq, root: Digest, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Save soon; a later checkpoint takes the place of one that still waits."""
        if self._store is None:
            self._on_saved(seq)
        else:
            self._wanted = _Wanted(seq, root, items)
            self._asked.set()

    async def save(self, seq: Seq, root: Digest, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Save now: done when it is durable.  Raises StorageFailure."""
        if self._store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.save, seq, root, items)
            self._saved.append(seq)
        self._on_saved(seq)

    def truncatable(self, seq: Seq) -> Seq | None:
        """The highest saved checkpoint up to `seq`, which is stable: the log before it is no longer needed."""
        covered = [saved for saved in self._saved if saved <= seq]
        if not covered:
            return None
        self._saved = [saved for saved in self._saved if saved >= covered[-1]]
        return covered[-1]

    def prune(self, truncated: Seq) -> None:
        """Remove, soon, the snapshots that the truncation at `truncated` leaves without use."""
        self._prunable = truncated
        self._asked.set()

    async def run(self) -> None:
        """Save what is wanted and remove what is not until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            prunable, self._prunable = self._prunable, None
            if prunable is not None and self._store is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._store.prune, prunable)
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                began = time.monotonic()
                await self.save(*wanted)
                took = time.monotonic() - began
                _log.debug("snapshot saved", seq=wanted.seq, seconds=round(took, 3))
                await asyncio.sleep(took * _REST)

    def close(self) -> None:
        """Let a snapshot that is being written end."""
        self._thread.shutdown(wait=True)
