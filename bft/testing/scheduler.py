"""Virtual time: a heap of calls, each at an instant, carried out in one order that only the seed decides."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MS = 1_000_000  # nanoseconds
SECOND = 1_000 * MS
WALL_EPOCH_NS = 1_800_000_000 * SECOND  # what wall clocks show when virtual time begins


class Scheduler:
    """Calls at instants of virtual time (integer nanoseconds); calls at one instant happen in the order of `at`."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.random = random.Random(seed)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, at_ns: int, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._heap, (max(self.now_ns, at_ns), self._count, call, args))

    def after(self, delay_ns: int, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now_ns + delay_ns, call, *args)

    def run_until(self, end_ns: int) -> None:
        """Carry out everything up to `end_ns`, and be at `end_ns` then."""
        heap = self._heap
        while heap and heap[0][0] <= end_ns:
            self.now_ns, _, call, args = heappop(heap)
            call(*args)
        self.now_ns = end_ns
