"""Batches of signatures verified on spare cores; libsodium releases the GIL, so threads do."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from crypto.keys import verify

Verification: TypeAlias = tuple[bytes, bytes, bytes]  # (public_raw, data, signature), as `verify` takes them

# One verification costs about 50 us and a hop to a thread and back about 100 us: below this a hop does not pay.
WORTHWHILE = 4


def default_threads() -> int:
    """Cores this process may use, less the one of the event loop; 0 on a single core."""
    return len(os.sched_getaffinity(0)) - 1


class VerifierPool:
    """Verifies lists of signatures, in `threads` threads or, with 0, inline.  Closed, it goes on inline."""

    def __init__(self, threads: int) -> None:
        if threads < 0:
            raise ValueError("a number of threads is not negative")
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="verify") if threads else None

    def verify_all(self, items: Sequence[Verification]) -> bool:
        """Whether every signature is valid; stops at the first that is not.  Runs in the caller's thread."""
        return all(verify(public_raw, data, signature) for public_raw, data, signature in items)

    async def verify_all_async(self, items: Sequence[Verification]) -> bool:
        """Whether every signature is valid.  A list worth it is split over the threads; the loop stays free."""
        if self._executor is None or len(items) < WORTHWHILE:
            return self.verify_all(items)
        loop = asyncio.get_running_loop()
        share = max(-(-len(items) // self._threads), WORTHWHILE)
        verdicts = await asyncio.gather(
            *(
                loop.run_in_executor(self._executor, self.verify_all, items[start : start + share])
                for start in range(0, len(items), share)
            )
        )
        return all(verdicts)

    def close(self) -> None:
        """Stop the threads after what they have begun; idempotent."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)
