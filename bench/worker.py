"""`python -m bench.worker`: one process of the load.  Started by the run, spoken to over its standard streams.

in:   the plan, a JSON object of one line; `go T` (T: when the measurement begins, CLOCK_MONOTONIC); end of file: stop
out:  {"ready": true}; then {"operations": N, "errors": N} every half second; the results go to the plan's file

Closed loop: each caller has one operation under way and begins the next when it is answered.  Open loop: operations
begin by a schedule, each taken by a caller that is free; when none is, it waits, and its latency runs.
"""

import asyncio
import itertools
import json
import random
import resource
import sys
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

import bft
from bench.history import KeyHistory, key_of, value_of
from bench.latency import Recorder
from bench.rate import Rate
from bench.shared import KEYS, SharedHistory
from bench.shared import key_of as shared_key
from bft.client import Client, ClientSettings
from bft.client.kv import read
from bft.errors import BftError
from bft.statemachine import kv

_REPORT_S: Final = 0.5
_VIOLATIONS_MAX: Final = 20  # that are told in words; all are counted
_OPEN_S: Final = 30.0
_LOAD_AT_ONCE: Final = 64  # keys of one caller
_ANSWERS_MAX: Final = 50_000  # whose times are kept, to be joined with the replicas'


@dataclass(frozen=True, slots=True)
class Plan:
    """What one worker is to do."""

    cluster: str
    result: str  # the file to write
    clients: list[int]  # of all clients of the run, those that are this worker's
    callers_per_client: int
    callers: int  # of the whole run
    bundles_max: int | None  # None: the SDK's default, as for the next
    bundle_operations_max: int | None
    value_size: int
    reads: float
    keys: int  # of the whole run
    shared: float  # share of the operations that go to keys which all callers write
    warmup_s: float
    duration_s: float
    rate: tuple[float, float] | None  # of the whole run, at the beginning and the end of the measurement

    def settings(self) -> ClientSettings:
        """The SDK's, so that what callers do at once becomes the bundles that are wanted."""
        if self.bundles_max is None or self.bundle_operations_max is None:
            return ClientSettings()
        return ClientSettings(
            bundles_max=self.bundles_max,
            bundle_operations_max=self.bundle_operations_max,
            bundle_bytes_max=(self.value_size + 64) * self.bundle_operations_max + 1024,
        )

    def json(self) -> str:
        return json.dumps(asdict(self))


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


class Caller:
    """Reads and writes keys that no other caller touches, one operation at a time."""

    def __init__(self, number: int, client: Client, plan: Plan, tally: Tally) -> None:
        self._number = number
        self._client = client
        self._plan = plan
        self._tally = tally
        self._random = random.Random(number)
        self._writes = itertools.count(1)
        self.histories = {
            key_of(key): KeyHistory(number, plan.value_size) for key in range(number, plan.keys, plan.callers)
        }
        self._keys = list(self.histories)
        self._seq = 0  # of the latest answer

    async def load(self) -> None:
        """Write each key once, so that reads find something."""
        for first in range(0, len(self._keys), _LOAD_AT_ONCE):
            await asyncio.gather(*(self._put(key) for key in self._keys[first : first + _LOAD_AT_ONCE]))

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

    async def _operate(self) -> tuple[str, bool]:
        """A read or a write of one of its keys; which, and whether it was answered."""
        chance, keys, plan = self._random.random, self._keys, self._plan
        if plan.shared and chance() < plan.shared and self._tally.shared.has_room:
            key = int(chance() * KEYS)
            return ("get", await self._get_shared(key)) if chance() < 0.5 else ("put", await self._put_shared(key))
        key_name = keys[int(chance() * len(keys))]
        if chance() < plan.reads:
            return "get", await self._get(key_name)
        return "put", await self._put(key_name)

    async def _put(self, key: bytes) -> bool:
        history, number = self.histories[key], next(self._writes)
        try:
            result = await self._client.call(kv.encode_put(key, value_of(self._number, number, self._plan.value_size)))
            revision = read(kv.decode_put, result)
        except BftError as error:
            history.doubtful.add(number)
            await self._failed(error)
            return False
        self._seq = result.seq
        self._tally.acknowledged += 1
        if wrong := history.on_acknowledged(number, revision):
            self._tally.violation(wrong)
        return True

    async def _get(self, key: bytes) -> bool:
        try:
            result = await self._client.call(kv.encode_get(key))
            entry = read(kv.decode_get, result)
        except BftError as error:
            await self._failed(error)
            return False
        self._seq = result.seq
        self._tally.acknowledged += 1
        if wrong := self.histories[key].on_read(None if entry is None else entry.value):
            self._tally.violation(wrong)
        return True

    async def _put_shared(self, key: int) -> bool:
        history = self._tally.shared
        value, invoked_ns = history.value(self._number), time.monotonic_ns()
        try:
            result = await self._client.call(kv.encode_put(shared_key(key), value))
            revision = read(kv.decode_put, result)
        except BftError as error:
            history.doubtful(self._number, key, value, invoked_ns)
            await self._failed(error)
            return False
        now_ns = time.monotonic_ns()
        history.wrote(self._number, key, value, invoked_ns, now_ns, seq=result.seq, revision=revision)
        self._seq = result.seq
        self._tally.acknowledged += 1
        return True

    async def _get_shared(self, key: int) -> bool:
        invoked_ns = time.monotonic_ns()
        try:
            result = await self._client.call(kv.encode_get(shared_key(key)))
            entry = read(kv.decode_get, result)
        except BftError as error:
            await self._failed(error)
            return False
        found = None if entry is None else entry.value
        self._tally.shared.read(self._number, key, found, invoked_ns, time.monotonic_ns(), seq=result.seq)
        self._seq = result.seq
        self._tally.acknowledged += 1
        return True

    async def _failed(self, error: BftError) -> None:
        self._tally.errors[f"{type(error).__name__}: {error}"] += 1
        await asyncio.sleep(0.05)  # a refusal comes at once: do not turn it into a busy loop


async def work(plan: Plan, orders: asyncio.StreamReader) -> None:
    """Connect, load the keys, wait for `go`, run, write the results."""
    tally, clock = Tally(), Clock(plan.duration_s)
    async with AsyncExitStack() as stack:
        callers: list[Caller] = []
        for number in plan.clients:
            client = await stack.enter_async_context(
                bft.connect(plan.cluster, timeout=_OPEN_S, settings=plan.settings())
            )
            first = number * plan.callers_per_client
            callers += [Caller(first + i, client, plan, tally) for i in range(plan.callers_per_client)]
        listening = asyncio.ensure_future(_listen(orders, clock))
        try:
            async with asyncio.TaskGroup() as group:
                for caller in callers:
                    group.create_task(caller.load())
            _say({"ready": True})
            cpu = await _measured(plan, callers, clock, tally)
        finally:
            listening.cancel()
    await asyncio.to_thread(_write, plan, callers, tally, cpu)


async def _listen(orders: asyncio.StreamReader, clock: Clock) -> None:
    while line := (await orders.readline()).split():
        clock.go(float(line[1]))
    clock.stop()


async def _measured(plan: Plan, callers: list[Caller], clock: Clock, tally: Tally) -> float:
    """Run all callers; the CPU seconds of this process during the measurement."""
    await clock.told.wait()
    reporting = asyncio.ensure_future(_report(tally))
    at_begin = asyncio.ensure_future(_cpu_at_begin(clock))
    async with asyncio.TaskGroup() as group:
        if plan.rate is None:
            for caller in callers:
                group.create_task(caller.run(clock))
        else:
            await _run_scheduled(plan, callers, clock, group)
    reporting.cancel()
    if not at_begin.done():  # stopped during the warm-up
        at_begin.cancel()
        return 0.0
    return _cpu_s() - at_begin.result()


async def _run_scheduled(plan: Plan, callers: list[Caller], clock: Clock, group: asyncio.TaskGroup) -> None:
    """Hand each operation, when it falls due, to whichever caller is free."""
    if plan.rate is None:
        raise ValueError("a closed loop has no schedule")
    due: asyncio.Queue[float | None] = asyncio.Queue()
    for caller in callers:
        group.create_task(caller.run_scheduled(clock, due))
    share = len(callers) / plan.callers
    for at_s in Rate(*plan.rate).schedule(plan.warmup_s, plan.duration_s, share=share):
        scheduled = clock.begin_s + at_s
        if (left := scheduled - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if time.monotonic() >= clock.end_s:
            break
        due.put_nowait(scheduled)
    for _ in callers:
        due.put_nowait(None)


async def _report(tally: Tally) -> None:
    while True:
        _say({"operations": tally.acknowledged, "errors": tally.errors.total()})
        await asyncio.sleep(_REPORT_S)


async def _cpu_at_begin(clock: Clock) -> float:
    await asyncio.sleep(max(0.0, min(clock.begin_s, clock.end_s) - time.monotonic()))
    return _cpu_s()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _write(plan: Plan, callers: list[Caller], tally: Tally, cpu_s: float) -> None:
    document = {
        "latencies": tally.recorder.document(),
        "latencies_from_send": tally.from_send.document(),
        "answers": list(tally.answers),
        "shared": tally.shared.document(),
        "acknowledged": tally.acknowledged,
        "errors": dict(tally.errors),
        "violations": tally.violations,
        "violation_count": tally.violation_count,
        "cpu_s": round(cpu_s, 3),
        "histories": {
            key.decode(): history.document() for caller in callers for key, history in caller.histories.items()
        },
    }
    Path(plan.result).write_text(json.dumps(document))


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


async def _main() -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    await work(Plan(**json.loads(await orders.readline())), orders)


def main() -> int:
    """The process."""
    try:
        uvloop.run(_main())
    except BaseExceptionGroup as group:
        foreseen, other = group.split(BftError)
        if foreseen is None or other is not None:
            raise
        return _fail(_first(foreseen))
    except BftError as error:
        return _fail(error)
    return 0


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _fail(error: BaseException) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
