"""Group commit for callers: what they submit meanwhile goes out under one signature."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from bft.client.result import Result

# MessagePack framing of an operation, and everything else that a request's payload holds.
OPERATION_OVERHEAD_BYTES: Final = 5
REQUEST_OVERHEAD_BYTES: Final = 128


class Waiter(Protocol):
    """Whoever awaits a call; an ``asyncio.Future`` is one."""

    def done(self) -> bool: ...

    def set_result(self, result: Result, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class PendingCall:
    """One operation that somebody awaits, until its waiter is done (answered, failed, timed out or cancelled)."""

    __slots__ = ("deadline", "operation", "waiter")

    def __init__(self, operation: bytes, deadline: float, waiter: Waiter) -> None:
        self.operation = operation
        self.deadline = deadline  # seconds of the event loop's clock
        self.waiter = waiter


class Bundler:
    """Calls that wait to be sent, oldest first."""

    def __init__(self, *, operations_max: int, bundle_bytes_max: int) -> None:
        self._operations_max = operations_max
        self._bytes_max = bundle_bytes_max
        self._queue: deque[PendingCall] = deque()
        self.earliest_deadline = math.inf  # not after the earliest deadline in the queue

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, call: PendingCall) -> None:
        self._queue.append(call)
        self.earliest_deadline = min(self.earliest_deadline, call.deadline)

    def put_back(self, calls: Iterable[PendingCall]) -> None:
        """Return calls, in their order, to the front: they were taken, but did not execute."""
        for call in reversed(list(calls)):
            self._queue.appendleft(call)
            self.earliest_deadline = min(self.earliest_deadline, call.deadline)

    def take(self) -> list[PendingCall]:
        """The next bundle: as many calls as fit, without those that nobody awaits any more; empty if there are none.

        A call larger than a bundle goes alone.
        """
        bundle: list[PendingCall] = []
        size = REQUEST_OVERHEAD_BYTES
        queue = self._queue
        while queue and len(bundle) < self._operations_max:
            call = queue[0]
            if not call.waiter.done():
                size += len(call.operation) + OPERATION_OVERHEAD_BYTES
                if bundle and size > self._bytes_max:
                    break
                bundle.append(call)
            queue.popleft()
        if not queue:
            self.earliest_deadline = math.inf
        return bundle

    def expired(self, now: float) -> Iterator[PendingCall]:
        """Remove and yield the calls whose deadline has passed; they were never sent."""
        if now < self.earliest_deadline:
            return
        calls, self._queue = self._queue, deque()
        self.earliest_deadline = math.inf
        for call in calls:
            if call.waiter.done():
                continue
            if call.deadline <= now:
                yield call
            else:
                self.add(call)

    def drain(self) -> list[PendingCall]:
        """Remove and return every call."""
        calls = list(self._queue)
        self._queue.clear()
        self.earliest_deadline = math.inf
        return calls
