"""The callers of the load: each has one operation under way, and checks every answer.

Closed loop: the next one begins when the one before is answered.  Open loop: operations begin by a schedule, each taken
by a caller that is free; when none is, it waits, and its latency runs.
"""

import asyncio
import itertools
import random
import time
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from bench.history import KeyHistory, key_of, value_of
from bench.latency import Recorder
from bench.plan import Plan
from bench.shared import SharedHistory, padded, unpadded
from bench.shared import key_of as shared_key
from bench.systems.interface import Session
from bench.systems.pbft import PbftSession
from bench.workloads import SCAN_MAX, Mix, Workload, Zipf
from bft.errors import BftError

T = TypeVar("T")

_VIOLATIONS_MAX: Final = 20  # that are told in words; all are counted
_LOAD_AT_ONCE: Final = 64  # keys of one caller
_ANSWERS_MAX: Final = 50_000  # whose times are kept, to be joined with the replicas'
_BACK_OFF_S: Final = 0.05


@dataclass(slots=True)
class Tally:
    """What all callers of this worker saw."""

    recorder: Recorder = field(default_factory=Recorder)
    from_send: Recorder = field(default_factory=Recorder)  # open loop: the latencies that a closed loop would have seen
    shared: SharedHistory = field(default_factory=SharedHistory)
    # of each operation of the measurement, the latest: its batch, when it was sent and answered (CLOCK_MONOTONIC)
    answers: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=_ANSWERS_MAX))
    acknowledged: int = 0  # operations, in and outside of the measurement
    errors: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    violation_count: int = 0

    def violation(self, text: str) -> None:
        self.violation_count += 1
        if len(self.violations) < _VIOLATIONS_MAX:
            self.violations.append(text)


class Clock:
    """When to measure and when to stop, on CLOCK_MONOTONIC, which all processes of a machine share."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self.begin_s = float("inf")
        self.end_s = float("inf")
        self.told = asyncio.Event()  # to begin, or not to

    def go(self, begin_s: float) -> None:
        self.begin_s, self.end_s = begin_s, begin_s + self._duration_s
        self.told.set()

    def stop(self) -> None:
        self.end_s = min(self.end_s, time.monotonic())
        self.told.set()


class Caller(ABC):
    """One operation at a time, over a session that others share."""

    def __init__(self, tally: Tally) -> None:
        self._tally: Final = tally
        self._seq = 0  # of the latest answer

    @abstractmethod
    async def load(self) -> None:
        """What has to be there before the load begins."""

    @abstractmethod
    async def _operate(self) -> tuple[str, bool]:
        """Carry out one operation; its kind, and whether it was answered."""

    async def run(self, clock: Clock) -> None:
        """One operation after the other, until the clock says stop."""
        record = self._tally.recorder.record
        while (begin := time.monotonic()) < clock.end_s:
            kind, done = await self._operate()
            now = time.monotonic()
            if done and clock.begin_s <= now < clock.end_s:
                record(kind, ended_s=now - clock.begin_s, latency_s=now - begin)
                self._tally.answers.append((self._seq, begin, now))

    async def run_scheduled(self, clock: Clock, due: "asyncio.Queue[float | None]") -> None:
        """Operations as they fall due (CLOCK_MONOTONIC), until the clock says stop or nothing more will (None)."""
        tally = self._tally
        while (scheduled := await due.get()) is not None and (begin := time.monotonic()) < clock.end_s:
            kind, done = await self._operate()
            now = time.monotonic()
            if done and clock.begin_s <= now < clock.end_s:
                ended_s = now - clock.begin_s
                tally.recorder.record(kind, ended_s=ended_s, latency_s=now - scheduled)
                tally.from_send.record(kind, ended_s=ended_s, latency_s=now - begin)
                tally.answers.append((self._seq, begin, now))

    def _answered(self, seq: int) -> None:
        self._seq = seq
        self._tally.acknowledged += 1

    async def _failed(self, error: BftError) -> None:
        self._tally.errors[f"{type(error).__name__}: {error}"] += 1
        await asyncio.sleep(_BACK_OFF_S)  # a refusal comes at once: do not turn it into a busy loop


class KeyValueCaller(Caller):
    """Reads, writes and scans keys that no other caller writes, and keys that all do."""

    def __init__(self, number: int, session: Session, plan: Plan, mix: Mix, tally: Tally) -> None:
        super().__init__(tally)
        self._number = number
        self._session = session
        self._plan = plan
        self._mix = mix
        self._random = random.Random(number)
        self._writes = itertools.count(1)
        self._new_keys = itertools.count(plan.keys + number, plan.callers)
        self._keys = [key_of(key) for key in range(number, plan.keys, plan.callers)]
        self.histories = {key: KeyHistory(number, plan.value_size) for key in self._keys}
        self._zipf = Zipf(plan.shared_keys if plan.shared == 1 else len(self._keys)) if plan.zipfian else None
        self._follow: Callable[[], Awaitable[bool]] | None = None  # the write that comes after a read

    async def load(self) -> None:
        """Write each key once, so that reads find something."""
        plan = self._plan
        shared = range(self._number, plan.shared_keys, plan.callers) if plan.shared == 1 else ()
        await _some_at_once(self._put, self._keys)
        await _some_at_once(self._put_shared, shared)

    async def _operate(self) -> tuple[str, bool]:
        chance, mix = self._random.random, self._mix
        if (follow := self._follow) is not None:
            self._follow = None
            return "put", await follow()
        if self._plan.shared and chance() < self._plan.shared and self._tally.shared.has_room:
            return await self._operate_shared(chance)
        die = chance()
        if die < mix.reads:
            key = self._pick()
            if mix.writes_follow_reads and chance() < 0.5:
                self._follow = lambda: self._put(key)
            return "get", await self._get(key)
        if die < mix.reads + mix.scans:
            return "scan", await self._scan(self._pick(), 1 + int(chance() * SCAN_MAX))
        if die < mix.reads + mix.scans + mix.inserts:
            return "insert", await self._insert()
        key = self._pick()
        return "put", await self._put(key)

    def _pick(self) -> bytes:
        """One of its own keys."""
        keys = self._keys
        if self._zipf is None:
            return keys[int(self._random.random() * len(keys))]
        rank = self._zipf.rank(self._random) % len(keys)
        return keys[-1 - rank if self._mix.latest else rank]

    async def _operate_shared(self, chance: Callable[[], float]) -> tuple[str, bool]:
        """On a key that all write; where there are few of them, reads and writes in equal parts say most."""
        if self._zipf is None or self._plan.shared < 1:
            key = int(chance() * self._plan.shared_keys)
            return ("get", await self._get_shared(key)) if chance() < 0.5 else ("put", await self._put_shared(key))
        key = self._zipf.rank(self._random)
        if chance() >= self._mix.reads and not self._mix.writes_follow_reads:
            return "put", await self._put_shared(key)
        if self._mix.writes_follow_reads and chance() < 0.5:
            self._follow = lambda: self._put_shared(key)
        return "get", await self._get_shared(key)

    async def _put(self, key: bytes) -> bool:
        history, number = self.histories[key], next(self._writes)
        try:
            written = await self._session.put(key, value_of(self._number, number, self._plan.value_size))
        except BftError as error:
            history.doubtful.add(number)
            await self._failed(error)
            return False
        self._answered(written.seq)
        self._check(history.on_acknowledged(number, written.revision))
        return True

    async def _insert(self) -> bool:
        key = key_of(next(self._new_keys))
        self.histories[key] = KeyHistory(self._number, self._plan.value_size)
        done = await self._put(key)
        if done:
            self._keys.append(key)
        return done

    async def _get(self, key: bytes) -> bool:
        try:
            found = await self._session.get(key)
        except BftError as error:
            await self._failed(error)
            return False
        self._answered(found.seq)
        self._check(self.histories[key].on_read(found.value))
        return True

    async def _scan(self, start: bytes, limit: int) -> bool:
        try:
            page = await self._session.scan(start, limit)
        except BftError as error:
            await self._failed(error)
            return False
        self._answered(page.seq)
        held = dict(page.items)
        if list(held) != sorted(held) or len(held) != len(page.items) or len(held) > limit:
            self._tally.violation(f"a scan from {start!r} is out of order or too long")
        # `_keys` is in order: what is inserted sorts after all before it.
        last = bisect_right(self._keys, page.items[-1][0]) if page.more and page.items else len(self._keys)
        for key in self._keys[bisect_left(self._keys, start) : last]:
            self._check(self.histories[key].on_read(held.get(key)))
        return True

    async def _put_shared(self, key: int) -> bool:
        history = self._tally.shared
        value, invoked_ns = history.value(self._number), time.monotonic_ns()
        try:
            written = await self._session.put(shared_key(key), padded(value, self._plan.value_size))
        except BftError as error:
            history.doubtful(self._number, key, value, invoked_ns)
            await self._failed(error)
            return False
        now_ns = time.monotonic_ns()
        history.wrote(self._number, key, value, invoked_ns, now_ns, seq=written.seq, revision=written.revision)
        self._answered(written.seq)
        return True

    async def _get_shared(self, key: int) -> bool:
        invoked_ns = time.monotonic_ns()
        try:
            found = await self._session.get(shared_key(key))
        except BftError as error:
            await self._failed(error)
            return False
        value = unpadded(found.value, self._plan.value_size)
        self._tally.shared.read(self._number, key, value, invoked_ns, time.monotonic_ns(), seq=found.seq)
        self._answered(found.seq)
        return True

    def _check(self, wrong: str | None) -> None:
        if wrong is not None:
            self._tally.violation(wrong)


class ServiceCaller(Caller):
    """Carries out a workload of one's own, on whatever service the cluster runs."""

    def __init__(self, session: PbftSession, workload: Workload, tally: Tally) -> None:
        super().__init__(tally)
        self._session = session
        self._workload = workload

    async def load(self) -> None:
        for operation in self._workload.setup():
            await self._call(operation)

    async def _operate(self) -> tuple[str, bool]:
        kind, operation = self._workload.next()
        return kind, await self._call(operation)

    async def _call(self, operation: bytes) -> bool:
        try:
            result = await self._session.call(operation)
        except BftError as error:
            await self._failed(error)
            return False
        self._answered(result.seq)
        if wrong := self._workload.wrong(operation, result.value):
            self._tally.violation(wrong)
        return True


async def _some_at_once(call: Callable[[T], Awaitable[bool]], arguments: Sequence[T]) -> None:
    for first in range(0, len(arguments), _LOAD_AT_ONCE):
        await asyncio.gather(*map(call, arguments[first : first + _LOAD_AT_ONCE]))
