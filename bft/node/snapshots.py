"""The state is saved beside the protocol, one stable checkpoint at a time, the latest first."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from bft.core.messages import GENESIS, CheckpointCertificate, Seq
from bft.errors import StorageFailure
from bft.statemachine.trie import MerkleTrie
from bft.storage.snapshot import SnapshotStore

# After a save the writer rests this many times as long as it took: however much changes, writing it takes at most a
# fifth of one core.  What waits meanwhile is only the truncation of the log on disk.
_REST: Final = 4.0
_SCRUB_EVERY_S: Final = 3600.0  # what is saved is read again and compared; at most a fiftieth of the time
_SCRUB_SHARE: Final = 50.0
_log = structlog.get_logger()


class SnapshotWriter:
    """Saves each checkpoint that the core asked for once it is stable; `on_saved` hears of each that is durable.

    Only a certified state takes the place of the one before it: whatever is saved, recovery can start from it.
    """

    def __init__(self, store: SnapshotStore | None, on_saved: Callable[[Seq], None]) -> None:
        self._store = store
        self._on_saved = on_saved
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._saved: MerkleTrie | None = None  # what the store holds, to save what differs from it
        self._saved_certificate: CheckpointCertificate = GENESIS
        self.scrubs = 0  # of what is saved, come to their end
        self.damaged = 0  # found so and written anew
        self._certificate: CheckpointCertificate = GENESIS  # the latest known
        self._wanted: dict[Seq, MerkleTrie] = {}  # from the latest certified on: at most a window's checkpoints
        self._asked = asyncio.Event()

    def recovered(self, saved: MerkleTrie, certificate: CheckpointCertificate) -> None:
        """What the store holds from before the start."""
        self._saved = saved
        self._saved_certificate = certificate
        self._certificate = certificate

    @property
    def saved_seq(self) -> Seq:
        """The checkpoint whose state is saved; 0: none is."""
        return self._saved_certificate.seq

    def want(self, seq: Seq, state: MerkleTrie) -> None:
        """Save the state at checkpoint `seq` soon after it is stable, unless a later one is by then."""
        if self._store is None:
            self._on_saved(seq)
            return
        self._wanted[seq] = state
        self._advance()

    def certified(self, certificate: CheckpointCertificate) -> None:
        """A checkpoint is stable."""
        if certificate.seq > self._certificate.seq:
            self._certificate = certificate
            self._advance()

    def _advance(self) -> None:
        stable = self._certificate.seq
        self._wanted = {seq: state for seq, state in self._wanted.items() if seq >= stable}
        if stable in self._wanted:
            self._asked.set()

    async def run(self) -> None:
        """Save, and look after what is saved, until cancelled.  Raises StorageFailure or DataDirectoryError."""
        scrub_at = time.monotonic() + _SCRUB_EVERY_S
        while True:
            try:
                # Not wait_for, which in Python 3.11 loses a cancellation that comes together with the event.
                async with asyncio.timeout(max(0.0, scrub_at - time.monotonic())):
                    await self._asked.wait()
            except TimeoutError:
                began = time.monotonic()
                await self._scrub()
                ended = time.monotonic()
                scrub_at = ended + max(_SCRUB_EVERY_S, _SCRUB_SHARE * (ended - began))
                continue
            self._asked.clear()
            certificate = self._certificate
            state = self._wanted.pop(certificate.seq, None)
            if state is None or state.root != certificate.root:  # a state that is not the certified one is not kept
                continue
            began = time.monotonic()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._save, certificate, state)
            self._saved = state
            self._saved_certificate = certificate
            self._on_saved(certificate.seq)
            took = time.monotonic() - began
            _log.debug("state saved", seq=certificate.seq, seconds=round(took, 3))
            await asyncio.sleep(took * _REST)

    async def _scrub(self) -> None:
        """Read what is saved from the disk; if it is not what was written, write it anew from what is in memory."""
        store, saved, certificate = self._store, self._saved, self._saved_certificate
        if store is None or saved is None:
            return
        loop = asyncio.get_running_loop()
        what = await loop.run_in_executor(self._thread, store.verify)
        self.scrubs += 1
        if what is None:
            return
        self.damaged += 1
        _log.error("the saved state is damaged on disk: it is written anew", path=str(store.path), damage=what)
        await loop.run_in_executor(self._thread, store.rewrite, certificate, lambda: saved.changes_since(MerkleTrie()))
        what = await loop.run_in_executor(self._thread, store.verify)
        if what is not None:
            raise StorageFailure(f"{store.path}: damaged again as soon as it was written ({what}): replace the disk")
        _log.warning("the saved state was written anew", seq=certificate.seq)

    def close(self) -> None:
        """Let a save that is under way end."""
        if self._store is not None:
            self._store.interrupt()
        self._thread.shutdown(wait=True)

    def _save(self, certificate: CheckpointCertificate, state: MerkleTrie) -> None:
        if self._store is not None:
            base = MerkleTrie() if self._saved is None else self._saved
            since = None if self._saved is None else base.root
            self._store.save(certificate, lambda: state.changes_since(base), since=since)
